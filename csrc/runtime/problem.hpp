// What went wrong, as a value: the code here is also compiled where C++ exceptions do not exist.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "gatewise.h"

namespace gatewise {

// The result of a function that can fail: true if it did, with a code of gw_code and one line.
class [[nodiscard]] Problem {
  public:
    Problem() = default;
    Problem(int code, std::string text) : code_(code), text_(std::move(text)) {}

    explicit operator bool() const { return code_ != GW_OK; }
    int code() const { return code_; }
    const std::string& text() const { return text_; }

  private:
    int code_ = GW_OK;
    std::string text_;
};

// Text from a file, fit for a message: short, and in one line.
std::string shown(std::string_view text);

}  // namespace gatewise

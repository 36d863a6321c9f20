// Reading a safetensors file from untrusted memory: nothing is believed before it is checked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "json.hpp"

namespace gatewise {

class Safetensors {
  public:
    struct Tensor {
        std::string_view name, dtype;
        std::vector<std::uint64_t> shape;
        std::uint64_t first, last;  // its bytes, from the end of the header
    };

    // Read the header of a file of `size` bytes at `data`, which must outlive this object. Checked: the header has at
    // most 100 MB, is UTF-8 and JSON without a key twice; each tensor has bytes for its shape; they fill the file
    // without gaps or overlaps.
    Problem read(const char* data, std::size_t size);

    // The string of a key of the metadata; empty if there is none.
    std::string_view metadata(std::string_view key) const;

    // Null if there is none of this name.
    const Tensor* find(std::string_view name) const;

    // The first byte of a tensor; not aligned.
    const char* data(const Tensor& tensor) const { return content_ + tensor.first; }

    const std::vector<Tensor>& tensors() const { return tensors_; }  // by name

  private:
    Json header_;
    JsonValue metadata_;
    std::vector<Tensor> tensors_;
    const char* content_ = nullptr;
};

}  // namespace gatewise

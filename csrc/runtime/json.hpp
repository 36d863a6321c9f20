// Reading JSON (RFC 8259) from an untrusted file: a document of bounded depth and size, no key of an object twice.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "problem.hpp"

namespace gatewise {

class Json;

// A value of a document, which must outlive it. Questions about a value of another kind have an empty answer.
class JsonValue {
  public:
    enum class Kind : std::uint8_t { missing, null, boolean, number, string, array, object };

    JsonValue() = default;

    Kind kind() const;
    bool is(Kind kind) const { return this->kind() == kind; }
    bool boolean() const;
    double number() const;
    std::string_view string() const;  // unescaped UTF-8, valid as long as the document
    std::size_t size() const;         // of an array or an object

    // The value of a key; missing if there is none. Takes time in proportion to the size of the object.
    JsonValue operator[](std::string_view key) const;

    // A non-negative integer below 2⁵³, or −1.
    std::int64_t integer() const;

    // Call f(value) for each item of an array, f(key, value) for each member of an object.
    template <class F>
    void each_item(F f) const;
    template <class F>
    void each_member(F f) const;

  private:
    friend class Json;
    JsonValue(const Json* json, std::size_t at) : json_(json), at_(at) {}

    const Json* json_ = nullptr;
    std::size_t at_ = 0;
};

class Json {
  public:
    // Parse a text; on failure the document is empty.
    Problem parse(std::string_view text);

    JsonValue root() const { return nodes_.empty() ? JsonValue() : JsonValue(this, 0); }

  private:
    friend class JsonValue;
    struct Node {
        JsonValue::Kind kind;
        std::uint32_t next;  // the node after the value and all it contains
        union {
            double number;
            struct {
                std::uint64_t first, size;  // of a string, in `text_`
            } span;
            std::uint64_t count;  // of items or members; the latter are a string and a value each
        };
    };

    class Parser;
    std::vector<Node> nodes_;
    std::string text_;  // of all strings
};

template <class F>
void JsonValue::each_item(F f) const {
    if (!is(Kind::array)) return;
    for (std::size_t k = 0, at = at_ + 1; k < size(); ++k, at = json_->nodes_[at].next) f(JsonValue(json_, at));
}

template <class F>
void JsonValue::each_member(F f) const {
    if (!is(Kind::object)) return;
    for (std::size_t k = 0, at = at_ + 1; k < size(); ++k) {
        const JsonValue key(json_, at), value(json_, json_->nodes_[at].next);
        f(key.string(), value);
        at = json_->nodes_[value.at_].next;
    }
}

}  // namespace gatewise

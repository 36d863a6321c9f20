#include "json.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "text.hpp"

namespace gatewise {
namespace {

constexpr int kDeepest = 64;
constexpr std::size_t kMostNodes = 1 << 23;  // 24 bytes each

bool is_digit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

std::string shown(std::string_view text) {
    std::string line;
    for (char c : text.substr(0, 60)) line += static_cast<unsigned char>(c) < 32 || c == 127 ? '?' : c;
    // A character that the limit cut in two is left out.
    while (text.size() > 60 && !line.empty() && (line.back() & 0xC0) == 0x80) line.pop_back();
    if (text.size() > 60 && !line.empty() && (line.back() & 0x80)) line.pop_back();
    return "'" + line + "'" + (text.size() > 60 ? "..." : "");
}

class Json::Parser {
  public:
    Parser(Json& json, std::string_view text) : json_(json), at_(text.data()), end_(text.data() + text.size()) {}

    const char* document() {
        if (!value(0)) return why_;
        skip();
        if (at_ != end_) return "something follows the value";
        return nullptr;
    }

  private:
    using Kind = JsonValue::Kind;

    bool fail(const char* why) {
        why_ = why;
        return false;
    }

    void skip() {
        while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
    }

    bool take(char c) {
        skip();
        if (at_ == end_ || *at_ != c) return false;
        ++at_;
        return true;
    }

    bool word(const char* text) {
        const std::size_t size = std::strlen(text);
        if (static_cast<std::size_t>(end_ - at_) < size || std::memcmp(at_, text, size) != 0) {
            return fail("not a JSON value");
        }
        at_ += size;
        return true;
    }

    // Start a node; `close` ends it.
    bool open(Kind kind, std::size_t& place) {
        if (json_.nodes_.size() >= kMostNodes) return fail("too many values");
        place = json_.nodes_.size();
        json_.nodes_.emplace_back();
        json_.nodes_.back().kind = kind;
        return true;
    }
    void close(std::size_t place) { json_.nodes_[place].next = static_cast<std::uint32_t>(json_.nodes_.size()); }

    bool value(int depth) {
        skip();
        if (at_ == end_) return fail("it ends where a value is expected");
        std::size_t place = 0;
        switch (*at_) {
            case '{': return depth < kDeepest ? object(depth) : fail("nested too deeply");
            case '[': return depth < kDeepest ? array(depth) : fail("nested too deeply");
            case '"': return string();
            case 'n':
                if (!open(Kind::null, place) || !word("null")) return false;
                break;
            case 't':
            case 'f':
                if (!open(Kind::boolean, place)) return false;
                json_.nodes_[place].number = *at_ == 't';
                if (!word(*at_ == 't' ? "true" : "false")) return false;
                break;
            default: return number();
        }
        close(place);
        return true;
    }

    bool number() {
        const char* const first = at_;
        if (at_ != end_ && *at_ == '-') ++at_;
        const char* const digits = at_;
        while (at_ != end_ && is_digit(*at_)) ++at_;
        if (at_ == digits || (*digits == '0' && at_ - digits > 1)) return fail("not a JSON value");
        if (at_ != end_ && *at_ == '.') {
            const char* const dot = at_++;
            while (at_ != end_ && is_digit(*at_)) ++at_;
            if (at_ - dot < 2) return fail("a number without digits after its point");
        }
        if (at_ != end_ && (*at_ == 'e' || *at_ == 'E')) {
            ++at_;
            if (at_ != end_ && (*at_ == '+' || *at_ == '-')) ++at_;
            const char* const power = at_;
            while (at_ != end_ && is_digit(*at_)) ++at_;
            if (at_ == power) return fail("a number without an exponent");
        }
        if (at_ - first > 400) return fail("a number with too many digits");
        char copy[401];  // strtod needs a closing zero
        std::memcpy(copy, first, static_cast<std::size_t>(at_ - first));
        copy[at_ - first] = 0;
        std::size_t place = 0;
        if (!open(Kind::number, place)) return false;
        json_.nodes_[place].number = std::strtod(copy, nullptr);
        close(place);
        return true;
    }

    bool hex(std::uint32_t& unit) {
        unit = 0;
        if (end_ - at_ < 4) return fail("a string ends within an escape");
        for (int k = 0; k < 4; ++k, ++at_) {
            const char c = *at_, low = static_cast<char>(c | 32);
            if (!is_digit(c) && (low < 'a' || low > 'f')) return fail("an escape that is not hexadecimal");
            unit = unit * 16 + static_cast<std::uint32_t>(is_digit(c) ? c - '0' : low - 'a' + 10);
        }
        return true;
    }

    bool escape() {
        if (at_ == end_) return fail("a string does not end");
        std::string& to = json_.text_;
        const char c = *at_++;
        switch (c) {
            case '"':
            case '\\':
            case '/': to += c; return true;
            case 'b': to += '\b'; return true;
            case 'f': to += '\f'; return true;
            case 'n': to += '\n'; return true;
            case 'r': to += '\r'; return true;
            case 't': to += '\t'; return true;
            case 'u': break;
            default: return fail("an unknown escape");
        }
        std::uint32_t unit = 0, second = 0;
        if (!hex(unit)) return false;
        if (unit >= 0xDC00 && unit < 0xE000) return fail("half a surrogate pair");
        if (unit >= 0xD800 && unit < 0xDC00) {
            if (end_ - at_ < 2 || at_[0] != '\\' || at_[1] != 'u') return fail("half a surrogate pair");
            at_ += 2;
            if (!hex(second)) return false;
            if (second < 0xDC00 || second >= 0xE000) return fail("half a surrogate pair");
            unit = 0x10000 + ((unit - 0xD800) << 10) + (second - 0xDC00);
        }
        append_utf8(to, unit);
        return true;
    }

    bool string() {
        std::size_t place = 0;
        if (!open(Kind::string, place)) return false;
        const std::size_t first = json_.text_.size();
        ++at_;
        for (;;) {
            if (at_ == end_) return fail("a string does not end");
            const char c = *at_++;
            if (c == '"') break;
            if (static_cast<unsigned char>(c) < 32) return fail("a control character in a string");
            if (c != '\\') {
                json_.text_ += c;
            } else if (!escape()) {
                return false;
            }
        }
        json_.nodes_[place].span = {first, json_.text_.size() - first};
        close(place);
        return true;
    }

    bool array(int depth) {
        std::size_t place = 0;
        std::uint64_t count = 0;
        if (!open(Kind::array, place)) return false;
        ++at_;
        if (!take(']')) {
            do {
                if (!value(depth + 1)) return false;
                ++count;
            } while (take(','));
            if (!take(']')) return fail("an array does not end");
        }
        json_.nodes_[place].count = count;
        close(place);
        return true;
    }

    bool object(int depth) {
        std::size_t place = 0;
        std::vector<std::uint32_t> keys;
        if (!open(Kind::object, place)) return false;
        ++at_;
        if (!take('}')) {
            do {
                skip();
                keys.push_back(static_cast<std::uint32_t>(json_.nodes_.size()));
                if (at_ == end_ || *at_ != '"') return fail("a key that is no string");
                if (!string()) return false;
                if (!take(':')) return fail("a key without a value");
                if (!value(depth + 1)) return false;
            } while (take(','));
            if (!take('}')) return fail("an object does not end");
        }
        json_.nodes_[place].count = keys.size();
        close(place);
        const auto text = [&](std::uint32_t key) {
            return std::string_view(json_.text_).substr(json_.nodes_[key].span.first, json_.nodes_[key].span.size);
        };
        std::sort(keys.begin(), keys.end(), [&](std::uint32_t a, std::uint32_t b) { return text(a) < text(b); });
        for (std::size_t k = 1; k < keys.size(); ++k) {
            if (text(keys[k - 1]) == text(keys[k])) return fail("a key stands twice in an object");
        }
        return true;
    }

    Json& json_;
    const char *at_, *const end_;
    const char* why_ = "";
};

Problem Json::parse(std::string_view text) {
    nodes_.clear(), text_.clear();
    if (const char* why = Parser(*this, text).document()) {
        nodes_.clear();
        return {GW_MODEL, why};
    }
    return {};
}

JsonValue::Kind JsonValue::kind() const { return json_ ? json_->nodes_[at_].kind : Kind::missing; }

bool JsonValue::boolean() const { return is(Kind::boolean) && json_->nodes_[at_].number != 0; }

double JsonValue::number() const { return is(Kind::number) ? json_->nodes_[at_].number : 0; }

std::string_view JsonValue::string() const {
    if (!is(Kind::string)) return {};
    const auto& span = json_->nodes_[at_].span;
    return std::string_view(json_->text_).substr(span.first, span.size);
}

std::size_t JsonValue::size() const {
    return is(Kind::array) || is(Kind::object) ? static_cast<std::size_t>(json_->nodes_[at_].count) : 0;
}

JsonValue JsonValue::operator[](std::string_view key) const {
    JsonValue found;
    each_member([&](std::string_view name, JsonValue value) {
        if (name == key) found = value;
    });
    return found;
}

std::int64_t JsonValue::integer() const {
    const double x = number();
    return is(Kind::number) && x >= 0 && x < 9007199254740992.0 &&
                   x == static_cast<double>(static_cast<std::int64_t>(x))
               ? static_cast<std::int64_t>(x)
               : -1;
}

}  // namespace gatewise

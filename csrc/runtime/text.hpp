// UTF-8, and the classes of characters that tokens depend on, as Python defines them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace gatewise {

bool is_utf8(std::string_view text);

// Append a character to UTF-8.
void append_utf8(std::string& to, std::uint32_t character);

// Call f(character, bytes) for each character of valid UTF-8.
template <class F>
void each_character(std::string_view text, F f) {
    for (std::size_t at = 0; at < text.size();) {
        const unsigned char first = static_cast<unsigned char>(text[at]);
        const std::size_t size = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
        std::uint32_t c = size == 1 ? first : first & (0x7Fu >> size);
        for (std::size_t k = 1; k < size; ++k) c = c << 6 | (static_cast<unsigned char>(text[at + k]) & 63u);
        f(c, text.substr(at, size));
        at += size;
    }
}

// str.isspace().
bool is_space(std::uint32_t character);

// str.lower() of each character on its own.
std::string lower(std::string_view text);

}  // namespace gatewise

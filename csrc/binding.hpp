// What the bindings share: Python passes the address of a tensor as an integer, 0 if there is none.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>

#include "numbers.hpp"

namespace gatewise {

// An address from Python, as a pointer to anything.
struct Pointer {
    std::uintptr_t address = 0;

    template <class T>
    operator T*() const {
        return reinterpret_cast<T*>(address);
    }
};

// Call f with a zero of the type of inputs and outputs in a compute type.
template <class F>
void with_real(Numbers numbers, F f) {
    numbers == Numbers::float64 ? f(0.0) : f(0.0f);
}

}  // namespace gatewise

template <>
struct nanobind::detail::type_caster<gatewise::Pointer> {
    NB_TYPE_CASTER(gatewise::Pointer, const_name("int"))

    bool from_python(handle source, std::uint32_t flags, cleanup_list* cleanup) noexcept {
        make_caster<std::uintptr_t> number;
        if (!number.from_python(source, flags, cleanup)) return false;
        value.address = number.value;
        return true;
    }
};

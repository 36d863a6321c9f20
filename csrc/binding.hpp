// What the bindings share: Python passes addresses as integers; 0 is an absent tensor.
#pragma once

#include <cstdint>

namespace gatewise {

using Address = std::uintptr_t;

template <class T>
T* at(Address address) {
    return reinterpret_cast<T*>(address);
}

}  // namespace gatewise

// Exceptions where the compiler has them. Where it has none (WebAssembly), what would throw ends the program.
//
//     GATEWISE_THROW(std::invalid_argument("..."));
//     GATEWISE_TRY { ... } GATEWISE_CATCH(const std::bad_alloc&) { ... }
#pragma once

#if defined(__cpp_exceptions)
#define GATEWISE_THROW(...) throw __VA_ARGS__
#define GATEWISE_TRY try
#define GATEWISE_CATCH(...) catch (__VA_ARGS__)
#else
#define GATEWISE_THROW(...) (static_cast<void>(sizeof((__VA_ARGS__))), __builtin_trap())
#define GATEWISE_TRY if (true)
#define GATEWISE_CATCH(...) else
#endif

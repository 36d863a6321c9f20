#include "safetensors.hpp"

#include <algorithm>
#include <string>

#include "text.hpp"

namespace gatewise {
namespace {

constexpr std::uint64_t kLargestHeader = 100'000'000;

// Bytes of an element; 0 for a dtype that does not exist.
std::uint64_t width_of(std::string_view dtype) {
    if (dtype == "F32" || dtype == "I32" || dtype == "U32") return 4;
    if (dtype == "F64" || dtype == "I64" || dtype == "U64") return 8;
    if (dtype == "BF16" || dtype == "F16" || dtype == "I16" || dtype == "U16") return 2;
    return dtype == "I8" || dtype == "U8" || dtype == "BOOL" ? 1 : 0;
}

// Read an array of sizes; false if it is none.
bool sizes_of(JsonValue value, std::vector<std::uint64_t>& to) {
    bool good = value.is(JsonValue::Kind::array);
    value.each_item([&](JsonValue item) {
        good = good && item.integer() >= 0;
        to.push_back(static_cast<std::uint64_t>(item.integer()));
    });
    return good;
}

Problem about(std::string_view name, const char* what) { return {GW_MODEL, "tensor " + shown(name) + " " + what}; }

Problem read_tensor(std::string_view name, JsonValue value, Safetensors::Tensor& tensor) {
    std::vector<std::uint64_t> ends;
    tensor.name = name, tensor.dtype = value["dtype"].string();
    std::uint64_t bytes = width_of(tensor.dtype);
    if (!bytes) return about(name, "has an unknown dtype");
    if (!sizes_of(value["shape"], tensor.shape)) return about(name, "has no valid shape");
    if (!sizes_of(value["data_offsets"], ends) || ends.size() != 2) return about(name, "has no valid offsets");
    for (std::uint64_t size : tensor.shape) {
        if (size && bytes > UINT64_MAX / size) return about(name, "has a shape that overflows");
        bytes *= size;
    }
    tensor.first = ends[0], tensor.last = ends[1];
    if (tensor.last < tensor.first || tensor.last - tensor.first != bytes) {
        return about(name, "has offsets that do not match its shape");
    }
    return {};
}

}  // namespace

Problem Safetensors::read(const char* data, std::size_t size) {
    std::uint64_t length = 0;
    for (std::size_t k = 0; k < 8 && k < size; ++k)
        length |= std::uint64_t{static_cast<unsigned char>(data[k])} << 8 * k;
    if (size < 8 || length > size - 8 || length > kLargestHeader) {
        return {GW_MODEL, "not a safetensors file: " + std::to_string(size) + " bytes, too few for a header"};
    }
    const std::string_view text(data + 8, static_cast<std::size_t>(length));
    if (!is_utf8(text)) return {GW_MODEL, "the header is not UTF-8"};
    if (Problem problem = header_.parse(text)) return {GW_MODEL, "the header is invalid: " + problem.text()};
    if (!header_.root().is(JsonValue::Kind::object)) return {GW_MODEL, "the header is not an object"};
    metadata_ = header_.root()["__metadata__"];
    Problem problem;
    header_.root().each_member([&](std::string_view name, JsonValue value) {
        if (problem || name == "__metadata__") return;
        tensors_.emplace_back();
        problem = read_tensor(name, value, tensors_.back());
    });
    if (problem) return problem;
    content_ = data + 8 + length;
    std::sort(tensors_.begin(), tensors_.end(), [](const Tensor& a, const Tensor& b) {
        return a.first != b.first ? a.first < b.first : a.last < b.last;
    });
    std::uint64_t end = 0;
    for (const Tensor& tensor : tensors_) {
        if (tensor.first != end) return about(tensor.name, "has a gap or an overlap before its data");
        end = tensor.last;
    }
    if (end != size - 8 - length) {
        return {GW_MODEL, "it has " + std::to_string(size - 8 - length) + " bytes of data; expected " +
                              std::to_string(end) + " according to its header"};
    }
    std::sort(tensors_.begin(), tensors_.end(), [](const Tensor& a, const Tensor& b) { return a.name < b.name; });
    return {};
}

std::string_view Safetensors::metadata(std::string_view key) const { return metadata_[key].string(); }

const Safetensors::Tensor* Safetensors::find(std::string_view name) const {
    const auto at = std::lower_bound(tensors_.begin(), tensors_.end(), name,
                                     [](const Tensor& tensor, std::string_view name) { return tensor.name < name; });
    return at != tensors_.end() && at->name == name ? &*at : nullptr;
}

}  // namespace gatewise

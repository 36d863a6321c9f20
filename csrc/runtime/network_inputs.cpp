// What the first layer of a model reads.
#include <algorithm>
#include <cmath>

#include "network.hpp"
#include "text.hpp"

namespace gatewise {

Problem Network::check_ids(const std::int64_t* ids, Index count) const {
    for (Index k = 0; k < count; ++k) {
        if (ids[k] >= 0 && ids[k] < tokens_.size()) continue;
        return {GW_DATA, "id " + std::to_string(ids[k]) + " is outside the vocabulary; expected 0 to " +
                             std::to_string(tokens_.size() - 1)};
    }
    return {};
}

// The vectors of words by their characters, (words, K).
Problem Network::spelled(const std::vector<std::string_view>& words, std::vector<float>& to) const {
    const Description& d = about_;
    const Index E = d.character_E, H = d.character_H;
    const bool lstm = d.characters == Description::Characters::lstm;
    const Index K = lstm ? 2 * H : H;
    to.assign(words.size() * static_cast<std::size_t>(K), 0.0f);
    std::vector<std::int64_t> ids, lengths;
    std::vector<Index> places;
    for (std::size_t word = 0; word < words.size(); ++word) {
        const std::size_t before = ids.size();
        each_character(words[word],
                       [&](std::uint32_t, std::string_view bytes) { ids.push_back(characters_.id_of(bytes)); });
        if (ids.size() == before) continue;  // an empty word has zeros
        lengths.push_back(static_cast<std::int64_t>(ids.size() - before)), places.push_back(static_cast<Index>(word));
    }
    const Sequences in{static_cast<Index>(lengths.size()), lengths.data(), ids.data()};
    if (lstm) {
        Batch::each(in, [&](const Batch& batch) {
            for (Index direction = 0; direction < 2; ++direction) {
                const std::vector<float> zeros(static_cast<std::size_t>(batch.rows * H));
                Ends ends{zeros, zeros};
                sweep(*spelling_[static_cast<std::size_t>(direction)], threads_, 1, H, 0, direction == 1, batch,
                      ids.data(), ends, [](Index, Index, const float*) {});
                for (Index r = 0; r < batch.rows; ++r) {
                    const Index word = places[static_cast<std::size_t>(batch.order[static_cast<std::size_t>(r)])];
                    std::copy_n(ends.h.begin() + r * H, H, to.begin() + word * K + direction * H);
                }
            }
        });
        return {};
    }
    std::vector<float> windows, answers;
    Index first = 0;
    for (std::size_t row = 0; row < lengths.size(); ++row, first += static_cast<Index>(lengths[row - 1])) {
        const Index count = static_cast<Index>(lengths[row]);
        windows.assign(static_cast<std::size_t>(count * 3 * E), 0.0f),
            answers.resize(static_cast<std::size_t>(count * H));
        for (Index s = 0; s < count; ++s) {
            for (Index k = 0; k < 3; ++k) {
                const Index from = s + k - 1;
                if (from < 0 || from >= count) continue;
                std::copy_n(character_table_.begin() + ids[static_cast<std::size_t>(first + from)] * E, E,
                            windows.begin() + (s * 3 + k) * E);
            }
        }
        linear(*spelling_[0], count, windows.data(), answers.data());
        float* best = to.data() + places[row] * K;
        std::copy_n(answers.begin(), H, best);
        for (Index s = 1; s < count; ++s) {
            for (Index k = 0; k < H; ++k)
                best[k] = answers[static_cast<std::size_t>(s * H + k)] > best[k]
                              ? answers[static_cast<std::size_t>(s * H + k)]
                              : best[k];
        }
    }
    return {};
}

// What the first layer reads, for models that do not read ids.
Problem Network::vectors(const Sequences& in, std::vector<float>& x) const {
    const Description& d = about_;
    const Index total = in.total(), I = d.I;
    if (!d.reads_words()) {
        const double* given = static_cast<const double*>(in.inputs);
        x.resize(static_cast<std::size_t>(total * I));
        Index item = 0;
        for (Index row = 0; row < in.rows; ++row) {
            const Index end = item + static_cast<Index>(in.lengths[row]);
            const double last = d.relative ? given[(end - 1) * I + d.target] : 0;
            for (; item < end; ++item) {
                for (Index k = 0; k < I; ++k) {
                    double value = given[item * I + k];
                    if (!std::isfinite(value))
                        return {GW_DATA, "the input holds numbers that are not finite; expected finite numbers only"};
                    if (d.relative && k == d.target) value -= last;
                    if (!d.x_mean.empty())
                        value = (value - d.x_mean[static_cast<std::size_t>(k)]) / d.x_std[static_cast<std::size_t>(k)];
                    const float number = static_cast<float>(value);
                    if (!std::isfinite(number))
                        return {GW_DATA,
                                "the input holds a number too far from the training data; expected numbers like those"};
                    x[static_cast<std::size_t>(item * I + k)] = number;
                }
            }
        }
        return {};
    }
    const Index E = d.E;
    const gw_text* words = static_cast<const gw_text*>(in.inputs);
    std::vector<std::string_view> distinct;
    std::vector<std::size_t> forms;
    std::unordered_map<std::string_view, std::size_t> known;
    for (Index k = 0; k < total; ++k) {
        const std::string_view word(words[k].size ? words[k].data : "", words[k].size);
        if (!is_utf8(word)) return {GW_DATA, "word " + std::to_string(k) + " is not UTF-8"};
        const auto [at, added] = known.emplace(word, distinct.size());
        if (added) distinct.push_back(word);
        forms.push_back(at->second);
    }
    std::vector<float> spellings;
    if (d.characters != Description::Characters::none) {
        if (Problem p = spelled(distinct, spellings)) return p;
    }
    const Index C = distinct.empty() ? 0 : static_cast<Index>(spellings.size() / distinct.size()), K = E + C;
    std::vector<std::int64_t> ids(distinct.size());
    std::transform(distinct.begin(), distinct.end(), ids.begin(),
                   [&](std::string_view word) { return tokens_.id_of(word); });
    x.resize(static_cast<std::size_t>(total * K));
    for (Index k = 0; k < total; ++k) {
        const std::size_t form = forms[static_cast<std::size_t>(k)];
        std::copy_n(table_.begin() + ids[form] * E, E, x.begin() + k * K);
        std::copy_n(spellings.begin() + static_cast<Index>(form) * C, C, x.begin() + k * K + E);
    }
    return {};
}

}  // namespace gatewise

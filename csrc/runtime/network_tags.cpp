// What a tagger says of the words of a sentence, each on its own or, with a CRF, together.
#include <algorithm>
#include <cmath>

#include "network.hpp"

namespace gatewise {
namespace {

double log_sum_exp(const std::vector<double>& x) {
    const double most = *std::max_element(x.begin(), x.end());
    double sum = 0;
    for (double each : x) sum += std::exp(each - most);
    return most + std::log(sum);
}

}  // namespace

// The best sequence of tags (Viterbi 1967): gatewise.runtime.viterbi, in the same order of operations.
Problem Network::tag(const Sequences& in, std::int64_t* labels) const {
    const Index C = about_.outputs, total = in.total();
    std::vector<float> scores(static_cast<std::size_t>(total * C));
    if (Problem p = run(in, nullptr, false, scores.data())) return p;
    const auto best_of = [&](auto* from) { return static_cast<std::int64_t>(std::max_element(from, from + C) - from); };
    if (!about_.crf) {
        for (Index k = 0; k < total; ++k) labels[k] = best_of(scores.data() + k * C);
        return {};
    }
    std::vector<double> best(static_cast<std::size_t>(C)), next(best.size()), sum(best.size());
    std::vector<std::int32_t> from(static_cast<std::size_t>(total * C));
    Index item = 0;
    for (Index row = 0; row < in.rows; ++row) {
        const Index first = item, end = item + static_cast<Index>(in.lengths[row]);
        for (Index c = 0; c < C; ++c) {
            best[c] = static_cast<double>(scores[first * C + c]) + static_cast<double>(start_[c]);
        }
        for (++item; item < end; ++item) {
            for (Index c = 0; c < C; ++c) {
                for (Index k = 0; k < C; ++k) sum[k] = best[k] + static_cast<double>(transitions_[k * C + c]);
                const Index k = best_of(sum.data());
                from[item * C + c] = static_cast<std::int32_t>(k);
                next[c] = sum[k] + static_cast<double>(scores[item * C + c]);
            }
            best.swap(next);
        }
        for (Index c = 0; c < C; ++c) best[c] += static_cast<double>(end_[c]);
        labels[end - 1] = best_of(best.data());
        for (Index k = end - 1; k > first; --k) labels[k - 1] = from[k * C + labels[k]];
    }
    return {};
}

// With a CRF: alpha[t][c] = e[t][c] + log sum_k exp(alpha[t-1][k] + transitions[k][c]), from start, and beta the same from
// the end; p(t, c) is the softmax over c of alpha[t][c] + beta[t][c], where beta leaves e[t][c] out.
Problem Network::tag_probabilities(const Sequences& in, double* p) const {
    const Index C = about_.outputs, total = in.total();
    std::vector<float> e(static_cast<std::size_t>(total * C));
    if (Problem problem = run(in, nullptr, false, e.data())) return problem;
    std::copy(e.begin(), e.end(), p);
    std::vector<double> beta(static_cast<std::size_t>(C)), sum(beta.size()), before(beta.size());
    Index item = 0;
    for (Index row = 0; about_.crf && row < in.rows; ++row) {
        const Index first = item, end = item + static_cast<Index>(in.lengths[row]);
        for (Index c = 0; c < C; ++c) p[first * C + c] += static_cast<double>(start_[c]);
        for (++item; item < end; ++item) {
            for (Index c = 0; c < C; ++c) {
                for (Index k = 0; k < C; ++k)
                    sum[k] = p[(item - 1) * C + k] + static_cast<double>(transitions_[k * C + c]);
                p[item * C + c] += log_sum_exp(sum);
            }
        }
        beta.assign(end_.begin(), end_.end());
        for (Index t = end - 1;; --t) {
            for (Index c = 0; c < C; ++c) p[t * C + c] += beta[c];
            if (t == first) break;
            for (Index k = 0; k < C; ++k) {
                for (Index c = 0; c < C; ++c) {
                    sum[c] = static_cast<double>(transitions_[k * C + c]) + static_cast<double>(e[t * C + c]) + beta[c];
                }
                before[k] = log_sum_exp(sum);
            }
            beta.swap(before);
        }
    }
    for (Index t = 0; t < total; ++t) {
        sum.assign(p + t * C, p + (t + 1) * C);
        const double all = log_sum_exp(sum);
        for (Index c = 0; c < C; ++c) p[t * C + c] = std::exp(sum[c] - all);
    }
    return {};
}

}  // namespace gatewise

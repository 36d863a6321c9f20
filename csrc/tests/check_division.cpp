// Count the work of each member of a team of 1 to 64, which needs neither threads nor processors: members run one after
// the other, barriers do nothing, and what a member writes is counted. Exits with 1 if some element of a result is not
// written by exactly one member, or if one member of a team has more than kBound times the mean. See division.sh.
#include <cstdio>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

#define GATEWISE_TARGET counted
#define GATEWISE_VECTOR_BYTES 64
#define GATEWISE_EMULATE
#include "../loss_in_pairs.hpp"
#include "../plan.hpp"
#include "../recurrence.hpp"
#include "../tiles.hpp"

namespace gatewise {

constexpr double kBound = 1.36;  // 22 × 21 blocks on 40 members: 15 of 11.5
constexpr int kSizes[] = {2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64};

// The scratch of all members. Its contents stay, because a member reads what others would have written.
class Team {
  public:
    std::deque<std::vector<char>> taken;
    std::size_t next = 0;

    char* take(std::size_t bytes) {
        if (next == taken.size()) taken.emplace_back();
        std::vector<char>& memory = taken[next++];
        if (memory.size() < bytes + 64) memory.resize(bytes + 64);
        return reinterpret_cast<char*>((reinterpret_cast<std::uintptr_t>(memory.data()) + 63) / 64 * 64);
    }
};

void Member::barrier() const {}
void* Member::scratch(Index bytes) const { return team->take(static_cast<std::size_t>(bytes)); }
Mark Member::mark() const { return {team->next, 0, 0}; }
void Member::release(Mark mark) const { team->next = mark.piece; }

namespace {

using namespace counted;

int failures = 0;

// Print the largest share relative to the mean, for each size. written(team): the memory of the result; it is complete
// after `work` ran on a team of one. size_of(most): how many members a call gets.
template <class F, class G, class S>
void check(const std::string& name, Index elements, std::size_t bytes, F work, G written, S size_of) {
    Team team;
    work(Member{&team, 0, 1});  // so that each member finds what the others would have written
    std::printf("%-34s", name.c_str());
    std::string over;
    for (int most : kSizes) {
        const int size = size_of(most);
        Index largest = 0, all = 0;
        for (int index = 0; index < size; ++index) {
            char* result = written(team);
            std::memset(result, 0xFF, static_cast<std::size_t>(elements) * bytes);
            team.next = 0;
            work(Member{&team, index, size});
            Index count = 0;
            const std::vector<char> untouched(bytes, '\xFF');
            for (Index k = 0; k < elements; ++k) {
                count += std::memcmp(result + static_cast<std::size_t>(k) * bytes, untouched.data(), bytes) != 0;
            }
            largest = count > largest ? count : largest, all += count;
        }
        if (all != elements) over += " " + std::to_string(size) + " (not each element once)";
        const double share = static_cast<double>(largest) * size / static_cast<double>(elements);
        if (share > kBound) over += " " + std::to_string(most);
        std::printf(" %.2f", share);
    }
    std::printf("%s%s\n", over.empty() ? "" : "  over the bound: ", over.c_str());
    failures += !over.empty();
}

int any(int most) { return most; }

template <class P>
void check_product(const char* policy, Index M, Index N, Index K) {
    const std::vector<float> a(static_cast<std::size_t>(M * K)), b(static_cast<std::size_t>(N * K));
    std::vector<float> c(static_cast<std::size_t>(M * N));
    check(
        "product " + std::to_string(M) + " " + std::to_string(N) + " " + std::to_string(K) + policy, M * N,
        sizeof(float),
        [&](Member me) {
            P::multiply({M, N, K, {a.data(), K, nullptr}, true, {b.data(), K, nullptr}, true, {c.data(), N, nullptr}},
                        me);
        },
        [&](Team&) { return reinterpret_cast<char*>(c.data()); }, any);
}

void check_steps(Index H, Index B) {
    const Plan plan(CellKind::lstm, 1, B, H, nullptr, false);
    const std::vector<float> zeros(static_cast<std::size_t>(4 * H * (H + B)));
    std::vector<float> y(static_cast<std::size_t>(B * H)), h(y), c(y);
    LayerForward<float> p{};
    p.T = 1, p.I = 1, p.H = H, p.steps = plan.steps;
    p.weights = {zeros.data(), zeros.data(), nullptr, nullptr};
    p.x = p.h_0 = p.c_0 = zeros.data(), p.y = y.data(), p.h_n = h.data(), p.c_n = c.data();
    const Index blocks = (H + kTileColumns<float> - 1) / kTileColumns<float>, groups = plan.steps.groups;
    // As few members as have the least largest share.
    const auto size_of = [&](int most) {
        const auto share = [&](int n) {
            return groups % n == 0 ? 1.0 / n : static_cast<double>((blocks + n - 1) / n) / static_cast<double>(blocks);
        };
        int best = 1;
        for (int n = 2; n <= most; ++n) best = share(n) < share(best) ? n : best;
        return best;
    };
    check(
        "steps, H " + std::to_string(H) + ", B " + std::to_string(B), B * H, sizeof(float),
        [&](Member me) { forward<Plain<float>, Lstm>(p, me); },
        [&](Team&) { return reinterpret_cast<char*>(y.data()); }, size_of);
}

// taken: which memory in the scratch of the loss to count, of how many elements.
template <class P, class Element>
void check_softmax(const char* policy, Index N, Index V, std::size_t taken, Index elements) {
    const std::vector<float> x(static_cast<std::size_t>(N)), weight(static_cast<std::size_t>(V));
    const std::vector<std::int64_t> targets(static_cast<std::size_t>(N));
    double nll = 0;
    const LinearLoss<float> p{N, 1,    V,       384,     x.data(), weight.data(), nullptr, targets.data(),
                              1, &nll, nullptr, nullptr, nullptr};
    check(
        "softmax, " + std::to_string(N) + " rows" + policy, elements, sizeof(Element),
        [&](Member me) { linear_loss<P>(p, me); },
        [&](Team& team) {
            team.next = taken;
            return team.take(0);
        },
        any);
}

}  // namespace
}  // namespace gatewise

int main() {
    using namespace gatewise;
    std::printf("%-34s", "largest share / mean, members:");
    for (int size : kSizes) std::printf(" %4d", size);
    std::printf("\n");
    for (Index H : {200, 650, 1500}) {
        for (Index B : {20, 32, 64}) check_steps(H, B);
    }
    check_softmax<Plain<float>, double>("", 700, 100, 0, 700);  // the loss of each row
    // The sums of two panels of each row, rows in whole strips.
    check_softmax<OnPairs<OnTiles<1>>, float>(", pairs", 700, 10000, 5, (10000 + 63) / 64 * 704);
    const Index shapes[][3] = {{700, 10000, 650}, {700, 650, 10000}, {10000, 650, 700},
                               {2600, 650, 700},  {700, 2600, 650},  {700, 650, 2600}};
    for (const auto& [M, N, K] : shapes) {
        check_product<Plain<float>>("", M, N, K);
        check_product<OnPairs<OnTiles<1>>>(", tiles", M, N, 32);
    }
    std::printf("%d over the bound of %.2f\n", failures, kBound);
    return failures != 0;
}

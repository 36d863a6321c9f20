// The memory of a team's runs. Not for code of a target.
#pragma once

#include <chrono>
#include <cstddef>
#include <vector>

#include "pages.hpp"
#include "team.hpp"

namespace gatewise {

// Memory that grows in pieces during a run, and is merged into one piece of the largest size held before the next run.
// Memory of which less than half was needed for a while is returned to the system.
class Scratch {
  public:
    // Null if out of memory; memory taken before stays valid.
    void* take(std::size_t bytes);

    Mark mark() const { return {pieces_.size(), used_, held_}; }
    void release(Mark mark);

    // Prepare for the next run.
    void reset() noexcept;

  private:
    bool hold(std::size_t bytes) noexcept;

    std::vector<Pages> pieces_;
    std::size_t capacity_ = 0, used_ = 0, held_ = 0, most_ = 0;  // most_: since since_
    std::chrono::steady_clock::time_point since_{};
};

}  // namespace gatewise

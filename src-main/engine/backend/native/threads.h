// The threads that all operations share, and memory that each thread keeps.

#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "vectors.h"

namespace {

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Threads spin for some microseconds after a task, because a token's next task comes soon. Then they sleep, so that an idle pool does not
// slow down other programs.
class Pool {
 public:
  // Runs task(0) to task(count - 1), each once, on the calling thread and the others. Waits for tasks that have started, not for threads
  // that the system has not woken yet.
  void run(int count, const std::function<void(int)>& task) {
    if (count <= 1 || workers_ == 0) {
      for (int i = 0; i < count; i++) task(i);
      return;
    }
    std::lock_guard<std::mutex> one(callers_);
    uint64_t round;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      task_ = &task;
      count_ = count;
      completed_ = 0;
      round = round_ + 1;
      ticket_ = round << 32;
      round_ = round;
    }
    wake_.notify_all();
    work(round, &task, count);
    for (int spin = 0; spin < spins && completed_ < count; spin++) pause();
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [&] { return completed_ == count; });
  }

  int threads() const { return workers_ + 1; }

  static Pool& shared() {
    // Never destroyed, because its threads live until the process exits.
    static Pool* pool = new Pool(wantedThreads() - 1);
    return *pool;
  }

 private:
  explicit Pool(int workers) : workers_(workers) {
    for (int i = 0; i < workers; i++) std::thread([this] { serve(); }).detach();
  }

  static int wantedThreads() {
    const char* given = std::getenv("TF_NUM_INTRAOP_THREADS");
    const int threads = given ? std::atoi(given) : 0;
    return threads > 0 ? threads : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }

  // Takes tasks of a round until none is left. A ticket holds the round in its upper half and the next task in its lower half, so a late
  // thread takes nothing from another round, whose task may no longer exist.
  void work(uint64_t round, const std::function<void(int)>* task, int count) {
    for (uint64_t ticket = ticket_;;) {
      const int next = static_cast<int>(ticket & 0xffffffff);
      if (ticket >> 32 != (round & 0xffffffff) || next >= count) return;
      if (!ticket_.compare_exchange_weak(ticket, ticket + 1)) continue;
      (*task)(next);
      if (++completed_ == count) {
        std::lock_guard<std::mutex> lock(mutex_);
        done_.notify_one();
      }
      ticket = ticket_;
    }
  }

  void serve() {
    for (uint64_t seen = 0;;) {
      const std::function<void(int)>* task;
      int count;
      for (int spin = 0; spin < spins && round_ == seen; spin++) pause();
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return round_ != seen; });
        seen = round_;
        task = task_;
        count = count_;
      }
      work(seen, task, count);
    }
  }

  static constexpr int spins = 2000;
  const int workers_;
  std::mutex callers_, mutex_;
  std::condition_variable wake_, done_;
  const std::function<void(int)>* task_ = nullptr;
  int count_ = 0;
  std::atomic<int> completed_{0};
  std::atomic<uint64_t> round_{0}, ticket_{0};
};

void inPieces(int64_t size, int64_t piece, const std::function<void(int64_t, int64_t)>& task) {
  const int pieces = static_cast<int>((size + piece - 1) / piece);
  Pool::shared().run(pieces, [&](int i) { task(i * piece, std::min(size, (i + 1) * piece)); });
}

// Memory that a thread keeps between calls.
template <int Purpose>
float* scratch(size_t floats) {
  static thread_local std::vector<float> memory;
  if (memory.size() < floats + lanes) memory.resize(floats + lanes);
  const auto address = reinterpret_cast<uintptr_t>(memory.data());
  return memory.data() + (-address / sizeof(float)) % lanes;
}

}  // namespace

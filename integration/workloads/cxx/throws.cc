// Copyright The otelagent authors
// SPDX-License-Identifier: Apache-2.0
// Exceptions thrown through many frames, caught, thrown again; streams, containers, threads.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <map>
#include <memory>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

volatile std::uint64_t sink;
double seconds;

bool IsOver() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9 >= seconds;
}

struct Guard {
  explicit Guard(int value) : text(std::to_string(value)) {}
  ~Guard() { sink = sink + text.size(); }
  std::string text;
};

[[gnu::noinline]] int Throwing(int depth) {
  Guard guard(depth);
  if (depth == 0) throw std::runtime_error("deep");
  return Throwing(depth - 1) + 1;
}

[[gnu::noinline]] void Rethrowing(int depth) {
  try {
    sink = sink + static_cast<std::uint64_t>(Throwing(depth));
  } catch (const std::exception& error) {
    sink = sink + std::string(error.what()).size();
    throw;
  }
}

class Shape {
 public:
  virtual ~Shape() = default;
  virtual double Area(int step) const = 0;
};

class Square : public Shape {
 public:
  double Area(int step) const override { return step * 1.5 * step; }
};

template <typename Value>
[[gnu::noinline]] double Sum(const std::vector<std::unique_ptr<Value>>& values, int step) {
  double sum = 0;
  for (const auto& value : values) sum += value->Area(step);
  return sum;
}

[[gnu::noinline]] void Work() {
  std::vector<std::unique_ptr<Shape>> shapes;
  for (int i = 0; i < 100; i++) shapes.push_back(std::make_unique<Square>());
  const std::regex word("([a-z]+)-([0-9]+)");
  while (!IsOver()) {
    for (int i = 0; i < 20; i++) {
      try {
        Rethrowing(i);
      } catch (...) {
        sink = sink + 1;
      }
    }
    std::map<std::string, int> counts;
    for (int i = 0; i < 200; i++) counts["key" + std::to_string(i * 7919 % 200)] += i;
    std::ostringstream out;
    for (const auto& [key, value] : counts) out << key << '-' << value << ' ';
    std::string text = out.str();
    for (std::sregex_iterator at(text.begin(), text.end(), word), end; at != end; ++at)
      sink = sink + static_cast<std::uint64_t>(at->length());
    std::sort(text.begin(), text.end(), [](char a, char b) { return a > b; });
    sink = sink + static_cast<std::uint64_t>(Sum(shapes, static_cast<int>(text.size())));
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 2) return 2;
  seconds = std::atof(arguments[1]) / 3;
  std::thread one(Work), two(Work);
  Work();
  one.join();
  two.join();
}

// Copyright The otelagent authors
// SPDX-License-Identifier: Apache-2.0

// Throws through some frames and single-steps itself: landing WHERE OUT. The file gets the
// last steps before the handler runs, each with its registers and some stack from the red
// zone on; its own mappings go to standard output.
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#define LINK __attribute__((noinline, noclone))
enum { kSteps = 400, kStack = 4096, kRedZone = 128, kTrapFlag = 0x100 };

extern "C" void* __libc_stack_end;

struct Step {
  uint64_t gp[32];
  uint64_t pc;
  unsigned char stack[kStack];
};

static Step steps[kSteps];
static unsigned count;
static volatile bool landed;
static bool lands_in_cleanup;
static bool steps_wanted;
static volatile int sink;

static void OnStep(int, siginfo_t*, void* context) {
  static const int kOrder[16] = {REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI,
                                 REG_RBP, REG_RSP, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                 REG_R12, REG_R13, REG_R14, REG_R15};
  auto* mc = &static_cast<ucontext_t*>(context)->uc_mcontext;
  if (landed) {
    mc->gregs[REG_EFL] &= ~static_cast<greg_t>(kTrapFlag);
    return;
  }
  Step& step = steps[count++ % kSteps];
  for (int i = 0; i < 16; i++) step.gp[i] = static_cast<uint64_t>(mc->gregs[kOrder[i]]);
  step.pc = static_cast<uint64_t>(mc->gregs[REG_RIP]);
  uint64_t from = step.gp[7] - kRedZone;
  size_t left = reinterpret_cast<uint64_t>(__libc_stack_end) - from;
  memcpy(step.stack, reinterpret_cast<void*>(from), left < kStack ? left : kStack);
}

struct Guard {
  ~Guard() { landed = lands_in_cleanup; }
};

static void StartSteps() {
  if (!steps_wanted) return;
  asm volatile("pushfq; orq $0x100,(%%rsp); popfq" ::: "memory", "cc");
}

LINK void Thrower(bool rethrows) {
  if (!rethrows) {
    StartSteps();
    throw 1;
  }
  try {
    throw 2;
  } catch (int) {
    StartSteps();
    throw;
  }
}

LINK void Middle(bool rethrows) {
  Thrower(rethrows);
  sink = sink + 1;
}

LINK void Cleanup(bool rethrows) {
  Guard guard;
  Middle(rethrows);
  sink = sink + 1;
}

// With a frame pointer of its own: rbp differs from what the frames below it had.
LINK void WithFramePointer(bool rethrows, int bytes) {
  auto* room = static_cast<char*>(__builtin_alloca(static_cast<unsigned>(bytes)));
  memset(room, 1, static_cast<unsigned>(bytes));
  Cleanup(rethrows);
  sink = sink + room[0];
}

LINK void Catcher(bool rethrows, bool has_cleanup) {
  try {
    has_cleanup ? WithFramePointer(rethrows, 64) : Middle(rethrows);
  } catch (int) {
    landed = true;
  }
  sink = sink + 1;
}

static void WriteAll(int to, const void* data, size_t size) {
  if (write(to, data, size) != static_cast<ssize_t>(size)) _exit(9);
}

int main(int, char** arguments) {
  static char text[65536];
  static char room[65536] __attribute__((aligned(16)));
  stack_t alternate = {};
  alternate.ss_sp = room;
  alternate.ss_size = sizeof(room);
  sigaltstack(&alternate, nullptr);
  struct sigaction action = {};
  action.sa_sigaction = OnStep;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGTRAP, &action, nullptr);
  // What is bound, and sorted, at the first throw would take seconds step by step.
  bool rethrows = strstr(arguments[1], "rethrow");
  bool has_cleanup = strstr(arguments[1], "cleanup");
  Catcher(rethrows, has_cleanup);
  landed = false;
  steps_wanted = true;
  lands_in_cleanup = strstr(arguments[1], "into-cleanup");
  Catcher(rethrows, has_cleanup);

  int out = open(arguments[2], O_CREAT | O_TRUNC | O_WRONLY, 0600);
  unsigned first = count > kSteps ? count - kSteps : 0;
  for (unsigned i = first; i < count; i++) WriteAll(out, &steps[i % kSteps], sizeof(Step));
  int maps = open("/proc/self/maps", O_RDONLY);
  for (ssize_t got; (got = read(maps, text, sizeof(text))) > 0;)
    WriteAll(1, text, static_cast<size_t>(got));
}

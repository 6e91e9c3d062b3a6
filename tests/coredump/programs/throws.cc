/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* An exception under way: `unwinding` stands in a destructor, `catching` in a handler. */

#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <unistd.h>

static volatile int keep;
static bool parks_in_destructor;

__attribute__((noinline)) void park()
{
	if (write(1, "ready\n", 6) != 6)
		_exit(1);
	for (;;)
		pause();
	keep = keep + 1;
}

struct Guard {
	std::string name;
	~Guard()
	{
		if (parks_in_destructor)
			park();
		keep = keep + 1;
	}
};

struct Thrower {
	virtual int act(int depth)
	{
		Guard guard{std::to_string(depth)};
		if (depth)
			return act(depth - 1) + keep;
		throw std::runtime_error("now");
	}
	virtual ~Thrower() = default;
};

template <typename Function> __attribute__((noinline)) int call(Function function, int depth)
{
	std::function<int(int)> held = function;
	return held(depth) + keep;
}

__attribute__((noinline)) int catches()
{
	Thrower thrower;
	Thrower *one = &thrower;
	try {
		return call([one](int depth) { return one->act(depth) + keep; }, 3);
	} catch (const std::exception &) {
		park();
		keep = keep + 1;
	}
	return keep;
}

int main(int argc, char **argv)
{
	parks_in_destructor = argc > 1 && !std::strcmp(argv[1], "unwinding");
	return catches();
}

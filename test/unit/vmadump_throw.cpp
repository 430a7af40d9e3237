// Exceptions in flight: each round one is thrown through frames whose destructors take their
// time, is rethrown out of its handler, and another is thrown and caught meanwhile.
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <stdexcept>
#include <string>

static void nap()
{
	const timespec ts = {0, 1000000};

	nanosleep(&ts, nullptr);
}

struct slow {
	long n;
	~slow()
	{
		nap();
		try { // while another is on its way
			throw n;
		} catch (long &caught) {
			if (caught != n || std::uncaught_exceptions() != 1)
				abort();
		}
		nap();
	}
};

static void fall(long n, int depth)
{
	slow s{n + depth};

	if (depth == 3)
		throw std::runtime_error(std::to_string(n * n));
	fall(n, depth + 1);
}

static void through(long n)
{
	try {
		fall(n, 0);
	} catch (std::exception &) {
		nap();
		throw;
	}
}

int main()
{
	for (long n = 0; n < 100; n++) {
		try {
			through(n);
			return 1;
		} catch (std::runtime_error &e) {
			printf("%s\n", e.what());
			fflush(stdout);
		}
	}
	puts("throw ok");
	return 0;
}

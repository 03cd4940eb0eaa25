/* SPDX-License-Identifier: GPL-2.0 */
/*
 * T4: actions of every signal, masks of every thread, signals that are queued to the process and to one thread with
 * their values and their order, alternate stacks. The queued ones are taken only after the test says so.
 */
#include "check.h"
#include <signal.h>
#include <sys/syscall.h>

enum { QUEUED = 20, THREADS = 4 };

static char altstack[THREADS][65536] __attribute__((aligned(4096)));
static volatile sig_atomic_t handled, on_altstack, last_value, ignored_handler;
static __thread int self;
static pthread_barrier_t ready, go;

static void on_signal(int signal, siginfo_t *info, void *context)
{
	char here;
	(void)context;

	(void)signal;
	last_value = info->si_value.sival_int;
	on_altstack = &here >= altstack[self] && &here < altstack[self] + sizeof(altstack[self]);
	handled++;
}

static void on_other(int signal)
{
	(void)signal;
	ignored_handler++;
}

static void queue_to_process(int signal, int value)
{
	CHECK_CALL("sigqueue", sigqueue(getpid(), signal, (union sigval){ .sival_int = value }));
}

static void queue_to_thread(int signal, int value)
{
	siginfo_t info = { .si_signo = signal, .si_code = SI_QUEUE };

	info.si_pid = getpid();
	info.si_uid = getuid();
	info.si_value.sival_int = value;
	CHECK_CALL("rt_tgsigqueueinfo",
		   (int)syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), signal, &info));
}

static uint64_t word(const sigset_t *set)
{
	uint64_t word;

	memcpy(&word, set, sizeof(word));
	return word;
}

static uint64_t mask_of_thread(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/task/%ld/status", syscall(SYS_gettid));
	return check_status(path, "SigBlk", 16);
}

static uint64_t field(const char *key)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/task/%ld/status", syscall(SYS_gettid));
	return check_status(path, key, 16);
}

static void set_altstack(int me)
{
	stack_t stack = { .ss_sp = altstack[me], .ss_size = sizeof(altstack[me]) };

	CHECK_CALL("sigaltstack", sigaltstack(&stack, NULL));
}

static void check_altstack(int me)
{
	stack_t stack;

	CHECK_CALL("sigaltstack", sigaltstack(NULL, &stack));
	CHECK(stack.ss_sp == altstack[me] && stack.ss_size == sizeof(altstack[me]) && !stack.ss_flags,
	      "alternate stack of thread %d: got %p, %zu, %d", me, stack.ss_sp, stack.ss_size, stack.ss_flags);
}

/* Each thread has a mask of its own and signals for itself only. */
static void *thread(void *argument)
{
	int me = (intptr_t)argument, number = SIGRTMIN + 5 + me;
	sigset_t mask, own;
	uint64_t expected;

	self = me;
	sigfillset(&mask);
	sigdelset(&mask, SIGRTMIN + 15 + me);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	expected = mask_of_thread();
	set_altstack(me);
	for (int i = 0; i < QUEUED; i++)
		queue_to_thread(number, 10000 * me + i);
	CHECK_EQUAL("SigPnd", field("SigPnd"), 1ull << (number - 1));
	pthread_barrier_wait(&ready);
	pthread_barrier_wait(&go);
	CHECK_EQUAL("mask of a thread", mask_of_thread(), expected);
	CHECK_EQUAL("SigPnd of a thread", field("SigPnd"), 1ull << (number - 1));
	check_altstack(me);
	sigemptyset(&own);
	sigaddset(&own, number);
	for (int i = 0; i < QUEUED; i++) {
		siginfo_t info;

		CHECK_EQUAL("sigwaitinfo", sigwaitinfo(&own, &info), number);
		CHECK_EQUAL("value of a thread's signal", info.si_value.sival_int, 10000 * me + i);
		CHECK_EQUAL("code of a thread's signal", info.si_code, SI_QUEUE);
		CHECK_EQUAL("sender of a thread's signal", info.si_pid, getpid());
	}
	CHECK_EQUAL("SigPnd at the end", field("SigPnd"), 0);
	return NULL;
}

int main(int argc, char **argv)
{
	struct sigaction actions[65], now;
	sigset_t mask, all;
	uint64_t blocked, caught, ignored;
	uint64_t for_process = 1ull << SIGRTMIN | 1ull << (SIGRTMIN + 1) | 1ull << (SIGUSR1 - 1);
	uint64_t for_thread = 1ull << (SIGRTMIN + 2);
	unsigned long turns = 0;
	pthread_t id[THREADS];
	siginfo_t info;

	check_begin(argc, argv, "t4_signals");
	sigfillset(&all);
	sigdelset(&all, SIGUSR2);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	for (int signal = 1; signal <= 64; signal++) {
		struct sigaction action = { .sa_flags = 0 };

		if (signal == SIGKILL || signal == SIGSTOP || signal == 32 || signal == 33)
			continue;
		sigemptyset(&action.sa_mask);
		switch (signal % 3) {
		case 0:
			action.sa_sigaction = on_signal;
			action.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
			sigaddset(&action.sa_mask, signal % 30 + 1);
			break;
		case 1:
			action.sa_handler = on_other;
			action.sa_flags = signal % 2 ? SA_NODEFER : SA_NOCLDWAIT;
			break;
		default:
			action.sa_handler = signal % 2 ? SIG_IGN : SIG_DFL;
		}
		CHECK_CALL("sigaction", sigaction(signal, &action, NULL));
	}
	/* These are used below, whatever their number. */
	for (int i = 0; i <= 20; i++) {
		struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK };

		sigemptyset(&action.sa_mask);
		CHECK_CALL("sigaction", sigaction(SIGRTMIN + i, &action, NULL));
		CHECK_CALL("sigaction", sigaction(i ? SIGUSR1 : SIGUSR2, &action, NULL));
	}
	for (int signal = 1; signal <= 64; signal++)
		if (signal != 32 && signal != 33)
			CHECK_CALL("sigaction", sigaction(signal, NULL, &actions[signal]));
	set_altstack(0);
	pthread_barrier_init(&ready, NULL, THREADS);
	pthread_barrier_init(&go, NULL, THREADS);
	for (intptr_t i = 1; i < THREADS; i++)
		CHECK_EQUAL("pthread_create", pthread_create(&id[i], NULL, thread, (void *)i), 0);
	pthread_barrier_wait(&ready);
	/* To the process: several of two numbers, one ordinary signal that merges. To this thread: one. */
	for (int i = 0; i < QUEUED; i++) {
		queue_to_process(SIGRTMIN + 1, 100 + i);
		queue_to_process(SIGRTMIN + 2, 200 + i);
	}
	kill(getpid(), SIGUSR1);
	kill(getpid(), SIGUSR1);
	queue_to_thread(SIGRTMIN + 3, 300);
	blocked = mask_of_thread();
	caught = field("SigCgt");
	ignored = field("SigIgn");
	check_ready();

	do {
		sigset_t masked, pending;

		/* Files of /proc are read after the loop only: an open one cannot be moved. */
		pthread_sigmask(SIG_SETMASK, NULL, &masked);
		sigpending(&pending);
		CHECK_EQUAL("mask", word(&masked), blocked);
		CHECK_EQUAL("pending", word(&pending), for_process | for_thread);
		/* A signal that is not blocked is handled at once, on the alternate stack. */
		int before = handled;

		queue_to_process(SIGUSR2, turns);
		CHECK_EQUAL("signals handled", handled, before + 1);
		CHECK_EQUAL("value in the handler", last_value, turns);
		CHECK(on_altstack, "the handler ran on the ordinary stack");
		check_altstack(0);
		turns++;
	} while (!check_turn());

	CHECK_EQUAL("SigBlk", mask_of_thread(), blocked);
	CHECK_EQUAL("SigCgt", field("SigCgt"), caught);
	CHECK_EQUAL("SigIgn", field("SigIgn"), ignored);
	CHECK_EQUAL("SigPnd", field("SigPnd"), for_thread);
	CHECK_EQUAL("ShdPnd", field("ShdPnd"), for_process);
	for (int signal = 1; signal <= 64; signal++) {
		if (signal == 32 || signal == 33)
			continue;
		CHECK_CALL("sigaction", sigaction(signal, NULL, &now));
		CHECK(now.sa_sigaction == actions[signal].sa_sigaction && now.sa_flags == actions[signal].sa_flags &&
			      !memcmp(&now.sa_mask, &actions[signal].sa_mask, 8) &&
			      now.sa_restorer == actions[signal].sa_restorer,
		      "action of signal %d differs", signal);
	}
	pthread_barrier_wait(&go);
	for (int i = 1; i < THREADS; i++)
		pthread_join(id[i], NULL);
	sigemptyset(&mask);
	sigaddset(&mask, SIGRTMIN + 1);
	for (int i = 0; i < QUEUED; i++) {
		CHECK_EQUAL("sigwaitinfo", sigwaitinfo(&mask, &info), SIGRTMIN + 1);
		CHECK_EQUAL("value", info.si_value.sival_int, 100 + i);
		CHECK_EQUAL("code", info.si_code, SI_QUEUE);
		CHECK_EQUAL("sender", info.si_pid, getpid());
	}
	/* The others go through the handler. */
	int before = handled;

	sigaddset(&mask, SIGRTMIN + 2);
	sigaddset(&mask, SIGRTMIN + 3);
	sigaddset(&mask, SIGUSR1);
	pthread_sigmask(SIG_UNBLOCK, &mask, NULL);
	CHECK_EQUAL("signals handled", handled - before, QUEUED + 2);
	CHECK_EQUAL("handlers of other signals", ignored_handler, 0);
	sigpending(&mask);
	for (int signal = 1; signal <= 64; signal++)
		CHECK(signal == 32 || signal == 33 || !sigismember(&mask, signal), "signal %d is still pending", signal);
	check_done(turns);
}

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * T12: the C library's restartable sequences stay registered. Threads add to per-CPU counters in restartable critical
 * sections; no addition is lost or doubled. At the end each CPU is visited and must show up in the area.
 */
#include "check.h"
#include <linux/rseq.h>
#include <sched.h>
#include <stddef.h>
#include <sys/rseq.h>
#include <sys/syscall.h>

enum { THREADS = 4, CPUS = 1024 };

static struct {
	intptr_t count;
	char space[56];
} counters[CPUS] __attribute__((aligned(64)));
static atomic_bool closing;
static atomic_llong added, aborted;

static struct rseq *area(void)
{
	return (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
}

/* Adds 1 to the counter of a CPU if the thread is still there. */
static bool add_on(struct rseq *rseq, uint32_t cpu)
{
	__asm__ volatile goto(
		"	.pushsection __rseq_cs, \"aw\"\n"
		"	.balign 32\n"
		"3:	.long 0, 0\n"
		"	.quad 1f, 2f - 1f, 4f\n"
		"	.popsection\n"
		"	leaq 3b(%%rip), %%rax\n"
		"	movq %%rax, %c[cs](%[rseq])\n"
		"1:	cmpl %[cpu], %c[id](%[rseq])\n"
		"	jne 4f\n"
		"	addq $1, %[count]\n"
		"2:\n"
		"	.pushsection __rseq_abort, \"ax\"\n"
		"	.byte 0x0f, 0xb9, 0x3d\n"
		"	.long 0x53053053\n"
		"4:	jmp %l[abort]\n"
		"	.popsection\n"
		:
		: [rseq] "r"(rseq), [cpu] "r"(cpu), [count] "m"(counters[cpu].count), [cs] "i"(offsetof(struct rseq, rseq_cs)),
		  [id] "i"(offsetof(struct rseq, cpu_id))
		: "rax", "memory", "cc"
		: abort);
	return true;
abort:
	return false;
}

static void *work(void *unused)
{
	struct rseq *rseq = area();

	(void)unused;
	while (!closing) {
		for (int i = 0; i < 20000; i++) {
			uint32_t cpu = __atomic_load_n(&rseq->cpu_id_start, __ATOMIC_RELAXED);

			CHECK(cpu < CPUS, "cpu_id_start: got %u", cpu);
			if (add_on(rseq, cpu))
				added++;
			else
				aborted++;
		}
		CHECK(area() == rseq, "the area has moved");
		CHECK((int32_t)rseq->cpu_id >= 0, "cpu_id: got %d: not registered", (int)rseq->cpu_id);
		check_sleep(5);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t id[THREADS];
	unsigned long turns = 0;
	long long total = 0;
	long cpus;

	check_begin(argc, argv, "t12_rseq");
	CHECK(__rseq_size, "the C library has not registered an area");
	for (int i = 0; i < THREADS; i++)
		CHECK_EQUAL("pthread_create", pthread_create(&id[i], NULL, work, NULL), 0);
	check_ready();
	do {
		unsigned int before, after, node;
		uint32_t shown;

		do {
			syscall(SYS_getcpu, &before, &node, NULL);
			shown = __atomic_load_n(&area()->cpu_id, __ATOMIC_RELAXED);
			syscall(SYS_getcpu, &after, &node, NULL);
		} while (before != after);
		CHECK_EQUAL("cpu_id", shown, after);
		/* Registered with the kernel: a second registration is refused. */
		CHECK(syscall(SYS_rseq, area(), 32, 0, 0x53053053) == -1 && (errno == EBUSY || errno == EINVAL),
		      "rseq: expected EBUSY, got %s", strerror(errno));
		turns++;
	} while (!check_turn());
	closing = true;
	for (int i = 0; i < THREADS; i++)
		pthread_join(id[i], NULL);
	for (int i = 0; i < CPUS; i++)
		total += counters[i].count;
	CHECK_EQUAL("sum of the counters", total, added);
	cpus = sysconf(_SC_NPROCESSORS_ONLN);
	for (long i = 0; i < cpus; i++) {
		cpu_set_t set;

		CPU_ZERO(&set);
		CPU_SET(i, &set);
		CHECK_CALL("sched_setaffinity", sched_setaffinity(0, sizeof(set), &set));
		CHECK_EQUAL("sched_getcpu", sched_getcpu(), i);
		CHECK_EQUAL("cpu_id on a given CPU", area()->cpu_id, i);
	}
	check_log("NOTE restarted critical sections: %lld of %lld", (long long)aborted, (long long)added);
	check_done(turns);
}

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * T9: long stretches in which all that a thread has is in its registers: general ones, flags, x87 stack and control word,
 * MXCSR, XMM/YMM/ZMM and mask registers as far as this CPU has them, PKRU, FS and GS base. One thread counts in a loop
 * without a system call, another sleeps in one. isa=sse|avx|avx512 asks for less than the CPU has.
 */
#include "check.h"
#include <asm/prctl.h>
#include <cpuid.h>
#include <stddef.h>
#include <sys/auxv.h>
#include <sys/syscall.h>

struct registers {
	uint64_t rax, rbx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15; /* 0 to 111 */
	uint64_t flags;                                                               /* 112 */
	uint32_t mxcsr, fcw;                                                          /* 120, 124 */
	double x87[8];                                                                /* 128 */
	uint64_t mask[8];                                                             /* 192 */
	uint8_t vector[32][64];                                                       /* 256 */
} __attribute__((aligned(64)));

_Static_assert(offsetof(struct registers, flags) == 112 && offsetof(struct registers, mxcsr) == 120 &&
	       offsetof(struct registers, x87) == 128 && offsetof(struct registers, vector) == 256, "layout for the code");

/*
 * void NAME(const struct registers *in, struct registers *out, uint64_t count)
 *
 * Loads everything, counts rcx down to 0 and r15 up by as much without touching flags or memory (or, if count is 0,
 * makes the system call that is in the registers), and stores everything.
 */
#define SPIN(NAME, LOAD, STORE)                                                                                          \
	__asm__(".text\n.balign 16\n.globl " NAME "\n.type " NAME ",@function\n" NAME ":\n"                              \
		"	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"                              \
		"	push %rsi\n"                                                                                     \
		"	mov %rdx, %rcx\n" LOAD                                                                           \
		"	fninit\n	fldcw 124(%rdi)\n	ldmxcsr 120(%rdi)\n"                                                     \
		"	fldl 184(%rdi); fldl 176(%rdi); fldl 168(%rdi); fldl 160(%rdi)\n"                                \
		"	fldl 152(%rdi); fldl 144(%rdi); fldl 136(%rdi); fldl 128(%rdi)\n"                                \
		"	mov 0(%rdi), %rax; mov 8(%rdi), %rbx; mov 16(%rdi), %rdx; mov 24(%rdi), %rsi\n"                  \
		"	mov 40(%rdi), %rbp; mov 48(%rdi), %r8; mov 56(%rdi), %r9; mov 64(%rdi), %r10\n"                  \
		"	mov 72(%rdi), %r11; mov 80(%rdi), %r12; mov 88(%rdi), %r13; mov 96(%rdi), %r14\n"                \
		"	mov 104(%rdi), %r15\n"                                                                           \
		"	test %rcx, %rcx\n	jz 2f\n"                                                                         \
		"	pushq 112(%rdi); popfq\n"                                                                        \
		"	mov 32(%rdi), %rdi\n"                                                                            \
		"1:	lea 1(%r15), %r15\n	loop 1b\n	jmp 3f\n"                                                \
		"2:	pushq 112(%rdi); popfq\n"                                                                        \
		"	mov 32(%rdi), %rdi\n	syscall\n"                                                                       \
		"3:	push %rdi\n	mov 8(%rsp), %rdi\n"                                                             \
		"	mov %rax, 0(%rdi); mov %rbx, 8(%rdi); mov %rdx, 16(%rdi); mov %rsi, 24(%rdi)\n"                  \
		"	mov %rbp, 40(%rdi); mov %r8, 48(%rdi); mov %r9, 56(%rdi); mov %r10, 64(%rdi)\n"                  \
		"	mov %r11, 72(%rdi); mov %r12, 80(%rdi); mov %r13, 88(%rdi); mov %r14, 96(%rdi)\n"                \
		"	mov %r15, 104(%rdi)\n"                                                                           \
		"	pushfq; popq 112(%rdi)\n	popq 32(%rdi)\n	pushq $0x202; popfq\n"                                   \
		"	stmxcsr 120(%rdi)\n	movl $0, 124(%rdi)\n	fnstcw 124(%rdi)\n"                                      \
		"	fstpl 128(%rdi); fstpl 136(%rdi); fstpl 144(%rdi); fstpl 152(%rdi)\n"                            \
		"	fstpl 160(%rdi); fstpl 168(%rdi); fstpl 176(%rdi); fstpl 184(%rdi)\n"                            \
		"	fninit\n" STORE                                                                                  \
		"	pop %rsi\n	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n	ret\n"                   \
		".size " NAME ", . - " NAME "\n")

#define IRP(LIST, TEXT) "	.irp n," LIST "\n	" TEXT "\n	.endr\n"
#define LOW "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15"
#define ALL LOW ",16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31"
#define MASKS "0,1,2,3,4,5,6,7"

SPIN("spin_sse", IRP(LOW, "movups 256+64*\\n(%rdi), %xmm\\n"), IRP(LOW, "movups %xmm\\n, 256+64*\\n(%rdi)"));
SPIN("spin_avx", IRP(LOW, "vmovdqu 256+64*\\n(%rdi), %ymm\\n"),
     IRP(LOW, "vmovdqu %ymm\\n, 256+64*\\n(%rdi)") "	vzeroupper\n");
SPIN("spin_avx512", IRP(ALL, "vmovdqu64 256+64*\\n(%rdi), %zmm\\n") IRP(MASKS, "kmovq 192+8*\\n(%rdi), %k\\n"),
     IRP(ALL, "vmovdqu64 %zmm\\n, 256+64*\\n(%rdi)") IRP(MASKS, "kmovq %k\\n, 192+8*\\n(%rdi)") "	vzeroupper\n");

typedef void spin_function(const struct registers *in, struct registers *out, uint64_t count);
extern spin_function spin_sse, spin_avx, spin_avx512;

static spin_function *spin;
static const char *isa;
static bool have_pkru, have_fsgsbase;
static atomic_bool closing;
static atomic_ullong spins;
static uint64_t per_spin;

static uint64_t xcr0(void)
{
	uint32_t low, high;

	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return (uint64_t)high << 32 | low;
}

static uint32_t read_pkru(void)
{
	uint32_t value, high;

	__asm__ volatile("rdpkru" : "=a"(value), "=d"(high) : "c"(0));
	return value;
}

static void write_pkru(uint32_t value)
{
	__asm__ volatile("wrpkru" : : "a"(value), "c"(0), "d"(0));
}

static uint64_t fs_base(void)
{
	uint64_t base;

	if (have_fsgsbase)
		__asm__ volatile("rdfsbase %0" : "=r"(base));
	else
		syscall(SYS_arch_prctl, ARCH_GET_FS, &base);
	return base;
}

static uint64_t gs_base(void)
{
	uint64_t base;

	if (have_fsgsbase)
		__asm__ volatile("rdgsbase %0" : "=r"(base));
	else
		syscall(SYS_arch_prctl, ARCH_GET_GS, &base);
	return base;
}

static void choose(void)
{
	unsigned int a, b, c, d, b7 = 0, c7 = 0;
	const char *limit = check_option("isa", "avx512");
	bool avx, avx512;

	__cpuid(1, a, b, c, d);
	avx = (c & bit_OSXSAVE) && (c & bit_AVX) && (xcr0() & 6) == 6;
	if (__get_cpuid_count(7, 0, &a, &b7, &c7, &d)) {
		have_pkru = c7 & bit_OSPKE;
		have_fsgsbase = b7 & bit_FSGSBASE;
	}
	/* The CPU may have it and the kernel have switched it off. */
	have_fsgsbase = have_fsgsbase && (getauxval(AT_HWCAP2) & 2);
	avx512 = avx && (b7 & bit_AVX512F) && (b7 & bit_AVX512BW) && (xcr0() & 0xe6) == 0xe6;
	if (avx512 && !strcmp(limit, "avx512")) {
		spin = spin_avx512;
		isa = "avx512";
	} else if (avx && strcmp(limit, "sse")) {
		spin = spin_avx;
		isa = "avx";
	} else {
		spin = spin_sse;
		isa = "sse";
	}
}

static void prepare(struct registers *in, uint64_t seed)
{
	static const uint32_t rounding[] = { 0x1f80, 0x3f80, 0x5f80, 0x7f80 | 0x8040 };
	static const uint32_t control[] = { 0x37f, 0x77f, 0xb7f, 0xf7f };

	check_fill(in, sizeof(*in), seed);
	in->flags = 0x202 | (seed & 1 ? 0xcd5 : 0x40001); /* CF PF AF ZF SF OF DF, or CF and AC */
	in->mxcsr = rounding[seed % 4];
	in->fcw = control[seed / 4 % 4];
	for (int i = 0; i < 8; i++)
		in->x87[i] = 1.0 / (double)(seed + i + 3);
}

static void compare(const struct registers *in, const struct registers *out, uint64_t count)
{
	static const char *const names[] = { "rax", "rbx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11", "r12",
					     "r13", "r14", "r15", "flags" };
	const uint64_t *a = &in->rax, *b = &out->rax;
	int vectors = spin == spin_avx512 ? 32 : 16;
	size_t bytes = spin == spin_avx512 ? 64 : spin == spin_avx ? 32 : 16;

	for (int i = 0; i < 15; i++) {
		uint64_t expected = a[i];

		if (i == 13)
			expected += count;
		if (!count && i == 0)
			expected = 0; /* what nanosleep returned */
		if (!count && i == 9)
			expected = in->flags;
		CHECK(b[i] == expected, "%s: expected %#llx, got %#llx", names[i], (unsigned long long)expected,
		      (unsigned long long)b[i]);
	}
	/* The lower six bits of MXCSR are what calculations leave; there are none. */
	CHECK_EQUAL("MXCSR", out->mxcsr, in->mxcsr);
	CHECK_EQUAL("x87 control word", out->fcw, in->fcw);
	for (int i = 0; i < 8; i++)
		CHECK(out->x87[i] == in->x87[i], "st(%d): expected %a, got %a", i, in->x87[i], out->x87[i]);
	for (int i = 0; i < vectors; i++)
		for (size_t j = 0; j < bytes; j++)
			CHECK(in->vector[i][j] == out->vector[i][j], "vector register %d byte %zu: expected %#x, got %#x", i,
			      j, in->vector[i][j], out->vector[i][j]);
	for (int i = 0; spin == spin_avx512 && i < 8; i++)
		CHECK_EQUAL("mask register", out->mask[i], in->mask[i]);
}

/* One thread: spins or sleeps until told otherwise. */
static void *work(void *argument)
{
	bool sleeps = argument;
	struct registers in, out;
	struct timespec t = { 0, 300000000 };
	uint64_t seed = sleeps ? 1000001 : 1, gs = 0x1000 * (sleeps ? 5 : 7), fs = fs_base();
	uint32_t pkru = 0x55555550 ^ (sleeps ? 0xf0 : 0xf00);

	CHECK_CALL("arch_prctl", (int)syscall(SYS_arch_prctl, ARCH_SET_GS, gs));
	while (!closing) {
		prepare(&in, seed);
		memset(&out, 0, sizeof(out));
		if (sleeps) {
			in.rax = SYS_nanosleep;
			in.rdi = (uintptr_t)&t;
			in.rsi = 0;
		}
		if (have_pkru)
			write_pkru(pkru);
		spin(&in, &out, sleeps ? 0 : per_spin);
		if (have_pkru)
			CHECK_EQUAL("PKRU", read_pkru(), pkru);
		__builtin_ia32_ldmxcsr(0x1f80);
		compare(&in, &out, sleeps ? 0 : per_spin);
		CHECK_EQUAL("FS base", fs_base(), fs);
		CHECK_EQUAL("GS base", gs_base(), gs);
		seed++;
		spins++;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct registers in, out;
	pthread_t id[2];
	int64_t start;

	check_begin(argc, argv, "t9_registers");
	choose();
	/* As many turns as take about a fifth of a second here. */
	prepare(&in, 1);
	per_spin = 1000000;
	start = check_clock(CLOCK_MONOTONIC);
	spin(&in, &out, per_spin);
	__builtin_ia32_ldmxcsr(0x1f80);
	compare(&in, &out, per_spin);
	per_spin = per_spin * 200000000ull / (check_clock(CLOCK_MONOTONIC) - start + 1);
	for (intptr_t i = 0; i < 2; i++)
		CHECK_EQUAL("pthread_create", pthread_create(&id[i], NULL, work, (void *)i), 0);
	check_log("NOTE registers: %s%s%s", isa, have_pkru ? ", pkru" : "", have_fsgsbase ? ", fsgsbase" : "");
	check_ready();
	while (!check_turn())
		;
	closing = true;
	for (int i = 0; i < 2; i++)
		pthread_join(id[i], NULL);
	check_done(spins);
}

/*
 * A program that knows which file it is run from.
 *
 * `mark.text` lies on a page of its own in read-only data; whoever copies this program writes
 * another text over it in the file. Each line that comes on descriptor 0 is answered there with
 * the text and the note as they are in memory now: what the process really maps, by no interface
 * of /proc. `note` may be changed in the file later: only the very file that is mapped shows it.
 *
 * No libc, so that it is small, static and runs in an empty root. End of file ends it.
 */

struct mark {
	char key[16];
	char text[16];
	char note[16];
	char rest[4096 - 48];
};

__attribute__((aligned(4096), used, section(".rodata.mark")))
const struct mark mark = {
	"whose-marked-by:", "................", "................", { 1 },
};

/* Whether the file is read-only data for good is not the compiler's to know. */
static const volatile char *seen(const char *text)
{
	__asm__ volatile("" : "+r"(text));
	return text;
}

#if defined(__x86_64__)
enum { READ = 0, WRITE = 1, EXIT = 231 };
static long call(long n, long a, long b, long c)
{
	long r;
	__asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c)
			 : "rcx", "r11", "memory");
	return r;
}
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tand $-16, %rsp\n\tcall run\n");
#elif defined(__aarch64__)
enum { READ = 63, WRITE = 64, EXIT = 94 };
static long call(long n, long a, long b, long c)
{
	register long x8 __asm__("x8") = n, x0 __asm__("x0") = a, x1 __asm__("x1") = b,
		 x2 __asm__("x2") = c;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
	return x0;
}
__asm__(".globl _start\n_start:\n\tmov x29, #0\n\tbl run\n");
#else
#error "marked.c knows the system calls of x86-64 and of arm64 only"
#endif

__attribute__((used, noreturn)) void run(void)
{
	char line[33];
	for (;;) {
		for (int i = 0; i < 16; i++) {
			line[i] = seen(mark.text)[i];
			line[16 + i] = seen(mark.note)[i];
		}
		line[32] = '\n';
		char byte;
		if (call(WRITE, 0, (long)line, 33) != 33 || call(READ, 0, (long)&byte, 1) != 1)
			break;
	}
	for (;;)
		call(EXIT, 0, 0, 0);
}

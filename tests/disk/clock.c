/* A wall clock that a test sets: loaded into a process of the tests with the shim of the disk.
 *
 * Programs read the clock without a call that could be intercepted: the kernel maps the code that does it (the vDSO) into
 * every process. Before the program begins, a jump to `shifted` is written over it, in this process's own copy. The
 * boot-time and monotonic clocks are left alone.
 *
 * CLOCK_CONTROL  a file that holds a struct clock; mapped, so that the test changes it while the process runs
 */
#define _GNU_SOURCE
#include <elf.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct clock {
    int64_t ahead; /* seconds */
    uint32_t works; /* set here, once the clock obeys */
    uint32_t unused;
};

static struct clock *shift;

static int shifted(clockid_t id, struct timespec *time) {
    long result = syscall(SYS_clock_gettime, id, time);
    if (result == 0 && id == CLOCK_REALTIME) time->tv_sec += __atomic_load_n(&shift->ahead, __ATOMIC_SEQ_CST);
    return (int)result;
}

#if defined(__x86_64__)
/* Where the kernel's code for clock_gettime is, and how long the mapping is that holds it. */
static unsigned char *code_of_clock(unsigned char *base, size_t *length) {
    if (!base) return NULL;
    Elf64_Ehdr *head = (Elf64_Ehdr *)base;
    Elf64_Phdr *parts = (Elf64_Phdr *)(base + head->e_phoff);
    Elf64_Dyn *entry = NULL;
    unsigned char *bias = NULL;
    for (int i = 0; i < head->e_phnum; i++) {
        if (parts[i].p_type == PT_LOAD && !bias) {
            bias = base + parts[i].p_offset - parts[i].p_vaddr;
            *length = parts[i].p_memsz;
        }
        if (parts[i].p_type == PT_DYNAMIC) entry = (Elf64_Dyn *)(base + parts[i].p_offset);
    }
    Elf64_Sym *symbols = NULL;
    const char *names = NULL;
    uint32_t count = 0;
    for (; bias && entry && entry->d_tag != DT_NULL; entry++) {
        if (entry->d_tag == DT_SYMTAB) symbols = (Elf64_Sym *)(bias + entry->d_un.d_ptr);
        if (entry->d_tag == DT_STRTAB) names = (const char *)(bias + entry->d_un.d_ptr);
        if (entry->d_tag == DT_HASH) count = ((uint32_t *)(bias + entry->d_un.d_ptr))[1];
    }
    for (uint32_t i = 0; symbols && names && i < count; i++)
        if (strcmp(names + symbols[i].st_name, "__vdso_clock_gettime") == 0) return bias + symbols[i].st_value;
    return NULL;
}

static int take_over(void) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), length = 0;
    unsigned char *base = (unsigned char *)getauxval(AT_SYSINFO_EHDR), *code = code_of_clock(base, &length);
    /* The kernel does not let this mapping be split: all of it, or nothing. */
    length = (length + page - 1) / page * page;
    if (!code || mprotect(base, length, PROT_READ | PROT_WRITE | PROT_EXEC) != 0) return 0;
    /* movabs rax, shifted; jmp rax */
    int (*target)(clockid_t, struct timespec *) = shifted;
    code[0] = 0x48, code[1] = 0xb8, code[10] = 0xff, code[11] = 0xe0;
    memcpy(code + 2, &target, 8);
    return mprotect(base, length, PROT_READ | PROT_EXEC) == 0;
}
#else
static int take_over(void) { return (void)shifted, 0; }
#endif

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CLOCK_CONTROL");
    if (!path) return;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    void *map = mmap(NULL, sizeof *shift, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd < 0 || map == MAP_FAILED) abort();
    shift = map;
    __atomic_store_n(&shift->works, (uint32_t)take_over(), __ATOMIC_SEQ_CST);
}

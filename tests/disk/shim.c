/* A disk that fails, and one that remembers: loaded into a process of the tests with LD_PRELOAD.
 *
 * It stands in front of the C library's calls that change files below one directory. It can make them fail (DISK_CONTROL),
 * and write down what was done, with the bytes and with when each sync began and ended (DISK_TRACE), so that a test can
 * build what a power cut at any moment may have left. It changes nothing else, and knows nothing of the program.
 *
 * DISK_DIR      the directory, as realpath names it
 * DISK_CONTROL  a file that holds a struct control; mapped, so that the test changes it while the process runs
 * DISK_TRACE    a file that records are appended to; see `record`
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FAULT_NONE, FAULT_WRITE_EIO, FAULT_SYNC_EIO, FAULT_NO_SPACE, FAULT_SHORT };
enum { CREATE = 1, WRITE, TRUNCATE, SYNC_BEGIN, SYNC_END, RENAME, UNLINK, MAKE_DIRECTORY };

struct control {
    uint32_t fault;
    int32_t after; /* so many calls of the kind pass first */
    int32_t count; /* then so many fail; below zero: all */
    uint32_t hits; /* failed so far */
    char match[64]; /* only files whose path holds this, or ends in it where it ends in $; empty: all */
};

static struct control *control;
static char directory[PATH_MAX];
static size_t directory_length;
static int trace = -1;
static pthread_mutex_t trace_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t next_sync;

#define REAL(result, name, ...) \
    static result (*real_##name)(__VA_ARGS__); \
    if (!real_##name) real_##name = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void begin(void) {
    const char *dir = getenv("DISK_DIR"), *path = getenv("DISK_CONTROL"), *log = getenv("DISK_TRACE");
    if (!dir) return;
    snprintf(directory, sizeof directory, "%s/", dir);
    directory_length = strlen(directory);
    if (path) {
        int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
        void *map = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (fd < 0 || map == MAP_FAILED) abort();
        control = map;
    }
    if (log) {
        trace = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        if (trace < 0) abort();
    }
}

/* Whether a path lies below the directory. The shared memory of SQLite is not stored: every start makes it anew. */
static int is_ours(const char *path) {
    size_t length = strlen(path);
    int below = directory_length && strncmp(path, directory, directory_length) == 0;
    return below && !(length > 4 && strcmp(path + length - 4, "-shm") == 0);
}

static int path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    /* The directory itself counts: its sync makes names durable. */
    size_t own = directory_length ? directory_length - 1 : 0;
    return is_ours(path) || (own && (size_t)length == own && strncmp(path, directory, own) == 0);
}

static uint64_t inode_of(int fd) {
    struct stat stat;
    return fstat(fd, &stat) == 0 ? stat.st_ino : 0;
}

static int is_directory(int fd) {
    struct stat stat;
    return fstat(fd, &stat) == 0 && S_ISDIR(stat.st_mode);
}

/* u8 kind, u64 a, u64 b, u32 length, bytes; little-endian. */
static void record(uint8_t kind, uint64_t a, uint64_t b, const void *bytes, size_t length) {
    if (trace < 0) return;
    uint8_t head[21];
    uint32_t length32 = (uint32_t)length;
    head[0] = kind;
    memcpy(head + 1, &a, 8);
    memcpy(head + 9, &b, 8);
    memcpy(head + 17, &length32, 4);
    struct iovec parts[2] = {{head, sizeof head}, {(void *)bytes, length}};
    pthread_mutex_lock(&trace_lock);
    ssize_t written = syscall(SYS_writev, trace, parts, 2);
    pthread_mutex_unlock(&trace_lock);
    if (written != (ssize_t)(sizeof head + length)) abort();
}

static int matches(const char *path) {
    size_t length = strnlen(control->match, sizeof control->match), own = strlen(path);
    if (length && control->match[length - 1] == '$') {
        length -= 1;
        return own >= length && strncmp(path + own - length, control->match, length) == 0;
    }
    return strstr(path, control->match) != NULL;
}

/* Whether this call is to fail. */
static int strikes(uint32_t fault, const char *path) {
    if (!control || __atomic_load_n(&control->fault, __ATOMIC_SEQ_CST) != fault) return 0;
    if (!matches(path)) return 0;
    if (__atomic_sub_fetch(&control->after, 1, __ATOMIC_SEQ_CST) >= 0) return 0;
    if (control->count >= 0 && __atomic_load_n(&control->hits, __ATOMIC_SEQ_CST) >= (uint32_t)control->count) return 0;
    __atomic_add_fetch(&control->hits, 1, __ATOMIC_SEQ_CST);
    return 1;
}

/* How much of a write is done; -1 with errno when none. */
static ssize_t allowed(const char *path, size_t count) {
    if (strikes(FAULT_WRITE_EIO, path)) return errno = EIO, -1;
    if (strikes(FAULT_NO_SPACE, path)) {
        /* A disk fills up in the middle of a write. */
        if (count > 512 && count % 2 == 0) return (ssize_t)(count / 2);
        return errno = ENOSPC, -1;
    }
    if (count > 1 && strikes(FAULT_SHORT, path)) return (ssize_t)(count / 2);
    return (ssize_t)count;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    REAL(ssize_t, write, int, const void *, size_t);
    char path[PATH_MAX];
    if (!directory_length || !path_of(fd, path)) return real_write(fd, bytes, count);
    ssize_t part = allowed(path, count);
    if (part < 0) return -1;
    ssize_t written = real_write(fd, bytes, (size_t)part);
    if (written > 0) {
        off_t end = lseek(fd, 0, SEEK_CUR);
        record(WRITE, inode_of(fd), (uint64_t)(end - written), bytes, (size_t)written);
    }
    return written;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    char path[PATH_MAX];
    if (!directory_length || !path_of(fd, path) || count < 1) return real_writev(fd, parts, count);
    /* One part after the other is a short write, which every caller must bear. */
    return write(fd, parts[0].iov_base, parts[0].iov_len);
}

static ssize_t write_at(int fd, const void *bytes, size_t count, off_t offset) {
    REAL(ssize_t, pwrite64, int, const void *, size_t, off_t);
    char path[PATH_MAX];
    if (!directory_length || !path_of(fd, path)) return real_pwrite64(fd, bytes, count, offset);
    ssize_t part = allowed(path, count);
    if (part < 0) return -1;
    ssize_t written = real_pwrite64(fd, bytes, (size_t)part, offset);
    if (written > 0) record(WRITE, inode_of(fd), (uint64_t)offset, bytes, (size_t)written);
    return written;
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) { return write_at(fd, bytes, count, offset); }
ssize_t pwrite64(int fd, const void *bytes, size_t count, off_t offset) { return write_at(fd, bytes, count, offset); }

static int sync_with(int fd, int (*real)(int)) {
    char path[PATH_MAX];
    if (!directory_length || !path_of(fd, path)) return real(fd);
    if (strikes(FAULT_SYNC_EIO, path)) return errno = EIO, -1;
    uint64_t number = __atomic_fetch_add(&next_sync, 1, __ATOMIC_SEQ_CST);
    size_t length = is_directory(fd) ? strlen(path) : 0;
    record(SYNC_BEGIN, inode_of(fd), number, path, length);
    int result = real(fd);
    if (result == 0) record(SYNC_END, inode_of(fd), number, path, length);
    return result;
}

int fsync(int fd) {
    REAL(int, fsync, int);
    return sync_with(fd, real_fsync);
}

int fdatasync(int fd) {
    REAL(int, fdatasync, int);
    return sync_with(fd, real_fdatasync);
}

static int truncate_to(int fd, off_t length) {
    REAL(int, ftruncate64, int, off_t);
    int result = real_ftruncate64(fd, length);
    char path[PATH_MAX];
    if (result == 0 && directory_length && path_of(fd, path)) record(TRUNCATE, inode_of(fd), (uint64_t)length, "", 0);
    return result;
}

int ftruncate(int fd, off_t length) { return truncate_to(fd, length); }
int ftruncate64(int fd, off_t length) { return truncate_to(fd, length); }

/* A file that the call made, or emptied, is written down. */
static int open_with(int dir, const char *path, int flags, mode_t mode) {
    char whole[PATH_MAX];
    int ours = directory_length && path[0] == '/' && is_ours(path) && (flags & (O_CREAT | O_TRUNC)) != 0;
    int existed = ours && access(path, F_OK) == 0;
    int fd = (int)syscall(SYS_openat, dir, path, flags | O_LARGEFILE, mode);
    if (fd < 0 || !ours) return fd;
    if (!existed && path_of(fd, whole)) record(CREATE, inode_of(fd), 0, whole, strlen(whole));
    else if (flags & O_TRUNC) record(TRUNCATE, inode_of(fd), 0, "", 0);
    return fd;
}

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & O_CREAT) { \
        va_list arguments; \
        va_start(arguments, flags); \
        mode = va_arg(arguments, mode_t); \
        va_end(arguments); \
    }

int open(const char *path, int flags, ...) { MODE(flags) return open_with(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return open_with(AT_FDCWD, path, flags, mode); }
int openat(int dir, const char *path, int flags, ...) { MODE(flags) return open_with(dir, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) { MODE(flags) return open_with(dir, path, flags, mode); }

int rename(const char *from, const char *to) {
    REAL(int, rename, const char *, const char *);
    int result = real_rename(from, to);
    if (result == 0 && directory_length && is_ours(to)) {
        char both[2 * PATH_MAX];
        int length = snprintf(both, sizeof both, "%s%c%s", from, 0, to);
        record(RENAME, 0, 0, both, (size_t)length);
    }
    return result;
}

int mkdir(const char *path, mode_t mode) {
    REAL(int, mkdir, const char *, mode_t);
    int result = real_mkdir(path, mode);
    if (result == 0 && directory_length && is_ours(path)) record(MAKE_DIRECTORY, 0, 0, path, strlen(path));
    return result;
}

int unlink(const char *path) {
    REAL(int, unlink, const char *);
    int result = real_unlink(path);
    if (result == 0 && directory_length && is_ours(path)) record(UNLINK, 0, 0, path, strlen(path));
    return result;
}

/* Copies within the kernel would pass unseen: callers fall back to read and write. */
ssize_t copy_file_range(int in, off_t *in_at, int out, off_t *out_at, size_t count, unsigned flags) {
    (void)in, (void)in_at, (void)out, (void)out_at, (void)count, (void)flags;
    return errno = ENOSYS, -1;
}

ssize_t sendfile(int out, int in, off_t *at, size_t count) {
    REAL(ssize_t, sendfile, int, int, off_t *, size_t);
    char path[PATH_MAX];
    if (directory_length && path_of(out, path)) return errno = EINVAL, -1;
    return real_sendfile(out, in, at, count);
}

/* Records what a process does to the files below a folder, for power.py: preloaded (LD_PRELOAD) into every process of a
 * node. Each call goes through to the kernel; when it has succeeded a record is appended to one log by one write(), so the
 * order of the records is that of the calls, over all processes.
 *
 *     RECORDER_ROOT   the folder, absolute
 *     RECORDER_LOG    the log
 *
 * A record: letter, pid, fd, length of path, length of data, offset, Unix time in ns (`struct head`), then path and data.
 *     o opened (offset: flags)   w written at offset   t made as long as offset   c closed
 *     B sync begins   E sync ended   r renamed (data: new path)   l linked (data: new path)   u unlinked
 *     m folder made   d folder removed
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MOST_FDS 65536

static const char *root;
static size_t root_length;
static int log_fd = -1;
static char watched[MOST_FDS]; /* 1: a file or folder below the root */

struct head {
    char letter, unused[3];
    int32_t pid, fd;
    uint32_t path, data;
    int64_t offset, at;
} __attribute__((packed));

static void say(char letter, int fd, int64_t offset, const char *path, const void *data, size_t length)
{
    int saved = errno;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t at = now.tv_sec * 1000000000LL + now.tv_nsec;
    struct head head = {letter, {0}, getpid(), fd, path ? strlen(path) : 0, length, offset, at};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)path, head.path}, {(void *)data, length}};
    syscall(SYS_writev, log_fd, parts, 3);
    errno = saved;
}

__attribute__((constructor)) static void begin(void)
{
    const char *log = getenv("RECORDER_LOG");
    root = getenv("RECORDER_ROOT");
    root_length = root ? strlen(root) : 0;
    if (root && log)
        log_fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

/* The absolute path when it is the root or below it, else NULL. */
static const char *below(int folder, const char *path, char *room)
{
    if (log_fd < 0 || !path)
        return NULL;
    if (path[0] == '/') {
        strncpy(room, path, PATH_MAX - 1);
        room[PATH_MAX - 1] = 0;
    } else {
        char link[64];
        ssize_t length;
        if (folder == AT_FDCWD)
            strcpy(link, "/proc/self/cwd");
        else {
            strcpy(link, "/proc/self/fd/");
            char digits[16];
            int n = 0, rest = folder;
            do digits[n++] = '0' + rest % 10; while (rest /= 10);
            char *end = link + strlen(link);
            while (n) *end++ = digits[--n];
            *end = 0;
        }
        length = readlink(link, room, PATH_MAX - 1);
        if (length < 0 || length + 1 + strlen(path) >= PATH_MAX)
            return NULL;
        room[length] = '/';
        strcpy(room + length + 1, path);
    }
    size_t length = strlen(room);
    while (length > 1 && room[length - 1] == '/')
        room[--length] = 0;
    return strncmp(room, root, root_length) == 0 && (room[root_length] == '/' || !room[root_length]) ? room : NULL;
}

static int is_watched(int fd) { return log_fd >= 0 && fd >= 0 && fd < MOST_FDS && watched[fd]; }

static int opened(int fd, const char *path, int flags)
{
    if (fd >= 0 && fd < MOST_FDS) {
        watched[fd] = path != NULL;
        if (path)
            say('o', fd, flags, path, NULL, 0);
    }
    return fd;
}

#define OPEN_AT(name)                                                                                                  \
    int name(int folder, const char *path, int flags, ...)                                                             \
    {                                                                                                                  \
        va_list more;                                                                                                  \
        char room[PATH_MAX];                                                                                           \
        va_start(more, flags);                                                                                         \
        int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, int) : 0;                                              \
        va_end(more);                                                                                                  \
        return opened(syscall(SYS_openat, folder, path, flags, mode), below(folder, path, room), flags);               \
    }
#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...)                                                                         \
    {                                                                                                                  \
        va_list more;                                                                                                  \
        char room[PATH_MAX];                                                                                           \
        va_start(more, flags);                                                                                         \
        int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, int) : 0;                                              \
        va_end(more);                                                                                                  \
        return opened(syscall(SYS_openat, AT_FDCWD, path, flags, mode), below(AT_FDCWD, path, room), flags);           \
    }
OPEN(open)
OPEN(open64)
OPEN_AT(openat)
OPEN_AT(openat64)

int close(int fd)
{
    if (fd == log_fd && log_fd >= 0) {
        errno = EBADF; /* whoever closes all descriptors leaves the log open */
        return -1;
    }
    if (is_watched(fd)) {
        watched[fd] = 0;
        say('c', fd, 0, NULL, NULL, 0);
    }
    return syscall(SYS_close, fd);
}

ssize_t write(int fd, const void *data, size_t count)
{
    if (!is_watched(fd))
        return syscall(SYS_write, fd, data, count);
    int64_t at = fcntl(fd, F_GETFL) & O_APPEND ? lseek(fd, 0, SEEK_END) : lseek(fd, 0, SEEK_CUR);
    ssize_t done = syscall(SYS_write, fd, data, count);
    if (done > 0)
        say('w', fd, at, NULL, data, done);
    return done;
}

static ssize_t pwritten(int fd, const void *data, size_t count, off_t at)
{
    ssize_t done = syscall(SYS_pwrite64, fd, data, count, at);
    if (done > 0 && is_watched(fd))
        say('w', fd, at, NULL, data, done);
    return done;
}
ssize_t pwrite(int fd, const void *data, size_t count, off_t at) { return pwritten(fd, data, count, at); }
ssize_t pwrite64(int fd, const void *data, size_t count, off64_t at) { return pwritten(fd, data, count, at); }

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    if (!is_watched(fd))
        return syscall(SYS_writev, fd, parts, count);
    ssize_t sum = 0;
    for (int i = 0; i < count; i++) {
        ssize_t done = write(fd, parts[i].iov_base, parts[i].iov_len);
        if (done < 0)
            return sum ? sum : done;
        sum += done;
        if ((size_t)done < parts[i].iov_len)
            break;
    }
    return sum;
}

static int truncated(int fd, off_t length)
{
    int result = syscall(SYS_ftruncate, fd, length);
    if (!result && is_watched(fd))
        say('t', fd, length, NULL, NULL, 0);
    return result;
}
int ftruncate(int fd, off_t length) { return truncated(fd, length); }
int ftruncate64(int fd, off64_t length) { return truncated(fd, length); }

static int allocated(int fd, off_t at, off_t length)
{
    struct stat file;
    int result = syscall(SYS_fallocate, fd, 0, at, length) ? errno : 0;
    if (!result && is_watched(fd) && !fstat(fd, &file))
        say('t', fd, file.st_size, NULL, NULL, 0);
    return result;
}
int posix_fallocate(int fd, off_t at, off_t length) { return allocated(fd, at, length); }
int posix_fallocate64(int fd, off64_t at, off64_t length) { return allocated(fd, at, length); }

static int synced(int fd, long number)
{
    if (!is_watched(fd))
        return syscall(number, fd);
    say('B', fd, 0, NULL, NULL, 0);
    int result = syscall(number, fd);
    if (!result)
        say('E', fd, 0, NULL, NULL, 0);
    return result;
}
int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

static int moved(char letter, int result, int from, const char *old, int to, const char *new)
{
    char room[PATH_MAX], more[PATH_MAX];
    const char *was = result ? NULL : below(from, old, room), *is = result ? NULL : below(to, new, more);
    if (was && is)
        say(letter, -1, 0, was, is, strlen(is));
    return result;
}
int rename(const char *old, const char *new)
{
    return moved('r', syscall(SYS_renameat2, AT_FDCWD, old, AT_FDCWD, new, 0), AT_FDCWD, old, AT_FDCWD, new);
}
int renameat(int from, const char *old, int to, const char *new)
{
    return moved('r', syscall(SYS_renameat2, from, old, to, new, 0), from, old, to, new);
}
int link(const char *old, const char *new)
{
    return moved('l', syscall(SYS_linkat, AT_FDCWD, old, AT_FDCWD, new, 0), AT_FDCWD, old, AT_FDCWD, new);
}
int linkat(int from, const char *old, int to, const char *new, int flags)
{
    return moved('l', syscall(SYS_linkat, from, old, to, new, flags), from, old, to, new);
}

static int named(char letter, int result, int folder, const char *path)
{
    char room[PATH_MAX];
    const char *what = result ? NULL : below(folder, path, room);
    if (what)
        say(letter, -1, 0, what, NULL, 0);
    return result;
}
int unlink(const char *path) { return named('u', syscall(SYS_unlinkat, AT_FDCWD, path, 0), AT_FDCWD, path); }
int unlinkat(int folder, const char *path, int flags)
{
    return named(flags & AT_REMOVEDIR ? 'd' : 'u', syscall(SYS_unlinkat, folder, path, flags), folder, path);
}
int rmdir(const char *path) { return named('d', syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR), AT_FDCWD, path); }
int mkdir(const char *path, mode_t mode) { return named('m', syscall(SYS_mkdirat, AT_FDCWD, path, mode), AT_FDCWD, path); }
int mkdirat(int folder, const char *path, mode_t mode)
{
    return named('m', syscall(SYS_mkdirat, folder, path, mode), folder, path);
}

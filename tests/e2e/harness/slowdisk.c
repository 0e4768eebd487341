/* Preloaded into one program, lets what is written below a folder take long: ADIT_SLOW_FOLDER names it, ADIT_SLOW_DISK a file of 8 octets,
   the milliseconds that each call takes. The number may change meanwhile: who waits waits for what it says then. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *millis;
static const char *folder;

__attribute__((constructor)) static void open_file(void) {
    const char *name = getenv("ADIT_SLOW_DISK");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    folder = getenv("ADIT_SLOW_FOLDER");
    if (file < 0 || !folder) abort();
    millis = mmap(0, sizeof *millis, PROT_READ, MAP_SHARED, file, 0);
    if (millis == MAP_FAILED) abort();
}

static void wait_for(int file) {
    char link[64], path[PATH_MAX];
    if (!millis || *millis == 0) return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return;
    path[length] = 0;
    if (strncmp(path, folder, strlen(folder)) != 0) return;
    struct timespec pause = {0, 5000000};
    for (int64_t waited = 0; waited < *millis; waited += 5) nanosleep(&pause, 0);
}

#define REAL(name) (real ? real : (real = dlsym(RTLD_NEXT, name)))

ssize_t write(int file, const void *octets, size_t count) {
    static ssize_t (*real)(int, const void *, size_t);
    wait_for(file);
    return REAL("write")(file, octets, count);
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    static ssize_t (*real)(int, const struct iovec *, int);
    wait_for(file);
    return REAL("writev")(file, parts, count);
}

int fsync(int file) {
    static int (*real)(int);
    wait_for(file);
    return REAL("fsync")(file);
}

int fdatasync(int file) {
    static int (*real)(int);
    wait_for(file);
    return REAL("fdatasync")(file);
}

/*
 * The inner loops of the benchmark, in C so that the system calls are what is timed and not an interpreter.
 *
 *     micro ELAPSED COMMAND [ARGUMENT]...
 *
 * works in the current directory, and writes the nanoseconds that COMMAND's loop took to the file ELAPSED;
 * `-` writes nothing, for preparations. Whatever fails ends the program: a figure of half the work is none.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static uint64_t began, took;

static void die(const char *what)
{
    fprintf(stderr, "micro: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void check(int failed, const char *what)
{
    if (failed)
        die(what);
}

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static void start(void) { began = now(); }
static void stop(void) { took = now() - began; }

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size);
    check(!memory, "memory");
    return memory;
}

/* A buffer that touches its pages before the clock runs. */
static char *buffer(size_t bytes) { return memset(allocate(bytes, 1), 'x', bytes); }

/* Made beforehand, since printf costs as much as a cached stat. */
typedef char Name[40];

static Name *names(size_t files, size_t directories)
{
    Name *list = allocate(files, sizeof *list);
    for (size_t i = 0; i < files; i++) {
        if (directories)
            snprintf(list[i], sizeof *list, "d%04zu/f%07zu", i % directories, i);
        else
            snprintf(list[i], sizeof *list, "f%07zu", i);
    }
    return list;
}

/* The same sequence in every run: xorshift64. */
static uint64_t random_state = 88172645463325252;

static uint64_t random_below(uint64_t bound)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % bound;
}

/* run TIMES COMMAND...: a command, from outside, one after the other. */
static void run(size_t times, char **command)
{
    start();
    for (size_t i = 0; i < times; i++) {
        pid_t child;
        int status;
        errno = posix_spawnp(&child, command[0], NULL, NULL, command, environ);
        check(errno, command[0]);
        check(waitpid(child, &status, 0) < 0, "waitpid");
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
            fprintf(stderr, "micro: %s failed (wait status %d)\n", command[0], status);
            exit(1);
        }
    }
    stop();
}

/* create FILES DIRECTORIES BYTES: new files, in the current directory when there are 0 directories. */
static void create(size_t files, size_t directories, size_t bytes)
{
    Name *list = names(files, directories);
    char *content = buffer(bytes);
    for (size_t i = 0; i < directories; i++) {
        Name directory;
        snprintf(directory, sizeof directory, "d%04zu", i);
        check(mkdir(directory, 0777) < 0, directory);
    }
    start();
    for (size_t i = 0; i < files; i++) {
        int file = open(list[i], O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        check(file < 0, list[i]);
        check(bytes && write(file, content, bytes) != (ssize_t)bytes, "write");
        check(close(file) < 0, "close");
    }
    stop();
}

/* churn TIMES BYTES: a new file, written, closed and removed, as tools do with their temporary files. */
static void churn(size_t times, size_t bytes)
{
    char *content = buffer(bytes);
    start();
    for (size_t i = 0; i < times; i++) {
        int file = open("churn", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        check(file < 0, "churn");
        check(write(file, content, bytes) != (ssize_t)bytes, "write");
        check(close(file) < 0, "close");
        check(unlink("churn") < 0, "unlink");
    }
    stop();
}

/* The next four visit the files that `create FILES 0 BYTES` made, PASSES times. */
static void stat_files(size_t files, size_t passes)
{
    Name *list = names(files, 0);
    struct stat attributes;
    start();
    for (size_t pass = 0; pass < passes; pass++)
        for (size_t i = 0; i < files; i++)
            check(stat(list[i], &attributes) < 0, list[i]);
    stop();
}

static void stat_missing(size_t files, size_t passes)
{
    Name *list = names(files, 0);
    struct stat attributes;
    for (size_t i = 0; i < files; i++)
        list[i][0] = 'm';
    start();
    for (size_t pass = 0; pass < passes; pass++)
        for (size_t i = 0; i < files; i++)
            check(stat(list[i], &attributes) == 0 || errno != ENOENT, "a missing file");
    stop();
}

static void open_files(size_t files, size_t passes, size_t bytes)
{
    Name *list = names(files, 0);
    char *content = buffer(bytes);
    start();
    for (size_t pass = 0; pass < passes; pass++)
        for (size_t i = 0; i < files; i++) {
            int file = open(list[i], O_RDONLY | O_CLOEXEC);
            check(file < 0, list[i]);
            check(bytes && read(file, content, bytes) != (ssize_t)bytes, "read");
            check(close(file) < 0, "close");
        }
    stop();
}

/* random-read|random-write FILE BLOCK TIMES: whole blocks at random places. */
static void random_io(const char *name, size_t block, size_t times, int writes)
{
    char *content = buffer(block);
    struct stat attributes;
    int file = open(name, O_RDWR | O_CLOEXEC);
    check(file < 0 || fstat(file, &attributes) < 0, name);
    uint64_t blocks = (uint64_t)attributes.st_size / block;
    start();
    for (size_t i = 0; i < times; i++) {
        off_t at = (off_t)(random_below(blocks) * block);
        ssize_t done = writes ? pwrite(file, content, block, at) : pread(file, content, block, at);
        check(done != (ssize_t)block, name);
    }
    check(close(file) < 0, "close");
    stop();
}

/* mmap-read FILE: every word of it through a mapping. */
static void mmap_read(const char *name)
{
    struct stat attributes;
    volatile uint64_t result;
    uint64_t sum = 0;
    start();
    int file = open(name, O_RDONLY | O_CLOEXEC);
    check(file < 0 || fstat(file, &attributes) < 0, name);
    size_t bytes = (size_t)attributes.st_size;
    uint64_t *words = mmap(NULL, bytes, PROT_READ, MAP_SHARED, file, 0);
    check(words == MAP_FAILED, "mmap");
    for (size_t i = 0; i < bytes / sizeof *words; i++)
        sum += words[i];
    result = sum;
    (void)result;
    check(munmap(words, bytes) < 0 || close(file) < 0, "munmap");
    stop();
}

/* mmap-write FILE BYTES: as linkers write. The munmap is timed: file systems may write back only then. */
static void mmap_write(const char *name, size_t bytes)
{
    start();
    int file = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    check(file < 0 || ftruncate(file, (off_t)bytes) < 0, name);
    char *content = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    check(content == MAP_FAILED, "mmap");
    memset(content, 'x', bytes);
    check(munmap(content, bytes) < 0 || close(file) < 0, "munmap");
    stop();
}

/*
 * touch-memory BYTES: takes this much memory, touches all of it and gives it back.
 *
 * A virtual machine gives memory that is free for some seconds back to its host (free page reporting), and gets it back
 * page by page at many times the cost of a copy. Whoever comes next to memory that was just freed does not pay that.
 */
static void touch_memory(size_t bytes)
{
    start();
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(memory == MAP_FAILED, "mmap");
    /* Not every system has huge pages; without, it only takes longer. */
    madvise(memory, bytes, MADV_HUGEPAGE);
    for (size_t at = 0; at < bytes; at += 4096)
        *(volatile char *)(memory + at) = 1;
    check(munmap(memory, bytes) < 0, "munmap");
    stop();
}

/* list FILES PASSES: reads the current directory, which must hold that many files. */
static void list(size_t files, size_t passes)
{
    start();
    for (size_t pass = 0; pass < passes; pass++) {
        DIR *directory = opendir(".");
        check(!directory, "opendir");
        size_t found = 0;
        while (readdir(directory))
            found++;
        closedir(directory);
        if (found != files + 2) { /* . and .. */
            fprintf(stderr, "micro: %zu entries instead of %zu\n", found, files + 2);
            exit(1);
        }
    }
    stop();
}

/* The argument at this place as a number; 0 where there is none. */
static size_t number(char **arguments, int count, int at)
{
    return at < count ? strtoull(arguments[at], NULL, 10) : 0;
}

int main(int count, char **arguments)
{
    if (count < 4) {
        fprintf(stderr, "usage: micro ELAPSED COMMAND ARGUMENT...\n");
        return 2;
    }
    const char *command = arguments[2], *name = arguments[3];
    size_t first = number(arguments, count, 3);
    size_t second = number(arguments, count, 4);
    size_t third = number(arguments, count, 5);
#define IS(word) (strcmp(command, word) == 0)
    if (IS("run") && count > 4)
        run(first, arguments + 4);
    else if (IS("create"))
        create(first, second, third);
    else if (IS("churn"))
        churn(first, second);
    else if (IS("stat"))
        stat_files(first, second);
    else if (IS("stat-missing"))
        stat_missing(first, second);
    else if (IS("open"))
        open_files(first, second, third);
    else if (IS("random-read"))
        random_io(name, second, third, 0);
    else if (IS("random-write"))
        random_io(name, second, third, 1);
    else if (IS("mmap-read"))
        mmap_read(name);
    else if (IS("mmap-write"))
        mmap_write(name, second);
    else if (IS("touch-memory"))
        touch_memory(first);
    else if (IS("list"))
        list(first, second);
    else {
        fprintf(stderr, "micro: no command %s\n", command);
        return 2;
    }
    if (strcmp(arguments[1], "-") != 0) {
        FILE *elapsed = fopen(arguments[1], "w");
        check(!elapsed || fprintf(elapsed, "%llu\n", (unsigned long long)took) < 0, arguments[1]);
        check(fclose(elapsed) != 0, arguments[1]);
    }
    return 0;
}

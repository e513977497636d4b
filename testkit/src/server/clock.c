/* The wall clock of a server that a test sets. It is loaded into redis-server before all other libraries, and adds to
   every wall clock time what stands in the file that CELERIAC_CLOCK names: nanoseconds, as eight bytes in the order of
   the machine. The file is mapped, so a test that writes it sets the clock of a server that runs. Monotonic clocks stay
   as they are, as they do on a machine whose clock is set. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND INT64_C(1000000000)

static volatile const int64_t *ahead;

__attribute__((constructor)) static void map_file(void) {
  const char *path = getenv("CELERIAC_CLOCK");
  int file = path ? open(path, O_RDONLY) : -1;
  void *map = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, file, 0);
  /* A server with the wrong clock would let a test pass that should not. */
  if (map == MAP_FAILED) abort();
  close(file);
  ahead = map;
}

#ifdef __APPLE__
#define REPLACEMENT(name) set_##name
static int true_time(clockid_t clock, struct timespec *time) { return clock_gettime(clock, time); }
static int is_wall_clock(clockid_t clock) { return clock == CLOCK_REALTIME; }
#else
#include <sys/syscall.h>
#define REPLACEMENT(name) name
/* Not by way of the C library, whose function this one stands for. */
static int true_time(clockid_t clock, struct timespec *time) {
  return (int)syscall(SYS_clock_gettime, clock, time);
}
static int is_wall_clock(clockid_t clock) {
  return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
}
#endif

int REPLACEMENT(clock_gettime)(clockid_t clock, struct timespec *time) {
  int answer = true_time(clock, time);
  if (answer == 0 && ahead && is_wall_clock(clock)) {
    int64_t now = (int64_t)time->tv_sec * SECOND + time->tv_nsec + *ahead;
    time->tv_sec = now / SECOND;
    time->tv_nsec = now % SECOND;
  }
  return answer;
}

int REPLACEMENT(gettimeofday)(struct timeval *time, void *zone) {
  struct timespec now;
  (void)zone;
  if (REPLACEMENT(clock_gettime)(CLOCK_REALTIME, &now) != 0) return -1;
  time->tv_sec = now.tv_sec;
  time->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t REPLACEMENT(time)(time_t *seconds) {
  struct timespec now;
  if (REPLACEMENT(clock_gettime)(CLOCK_REALTIME, &now) != 0) return -1;
  if (seconds) *seconds = now.tv_sec;
  return now.tv_sec;
}

#ifdef __APPLE__
#define INSTEAD_OF(name) { (const void *)set_##name, (const void *)name }
__attribute__((used, section("__DATA,__interpose"))) static const struct {
  const void *replacement, *original;
} replaced[] = { INSTEAD_OF(clock_gettime), INSTEAD_OF(gettimeofday), INSTEAD_OF(time) };
#endif

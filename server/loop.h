/*
 * loop: one process's event loop over epoll(7), with timers.
 */
#ifndef ADIT_LOOP_H
#define ADIT_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct loop_io;
struct loop_timer;

/* NULL: errno. */
struct loop *loop_new(void);
void loop_free(struct loop *l); /* watches and timers too, not their fds */
/* In a fork: close what the loop has open, and leave its memory, which is
 * shared with the parent, as it is. */
void loop_leave(struct loop *l);

/* Watch fd (borrowed) for EPOLLIN/EPOLLOUT; level-triggered. fn gets the
 * events that came (EPOLLHUP and EPOLLERR included). NULL: errno. */
struct loop_io *loop_add(struct loop *l, int fd, uint32_t events,
                         void (*fn)(void *arg, uint32_t events), void *arg);
/* Change what is watched; events 0 keeps the place without waking up. */
void loop_set(struct loop_io *io, uint32_t events);
/* Forget the watch. Safe inside any callback; must precede close(fd). */
void loop_del(struct loop_io *io); /* accepts NULL */

/* Call fn once after delay_ms. NULL: no memory. */
struct loop_timer *loop_after(struct loop *l, uint64_t delay_ms,
                              void (*fn)(void *arg), void *arg);
/* Cancel; accepts NULL. A timer that fired is gone by itself. */
void loop_cancel(struct loop_timer *t);

/* Called once before every wait; returns true if the loop must not sleep. */
void loop_before_wait(struct loop *l, bool (*fn)(void *arg), void *arg);

/* Run until loop_stop(); returns its code, or -1 (errno). */
int loop_run(struct loop *l);
void loop_stop(struct loop *l, int code);

uint64_t loop_now_ms(void); /* CLOCK_MONOTONIC */
uint64_t loop_now_us(void);

#endif

/*
 * RateLimit: when the session is woken for it, and whose turn is first. What
 * may go is worked out in pump_pace.c.
 */
#include "server/session_private.h"

void session_pace_turn(struct session *s)
{
	struct pump_pace *e = s->pump.pace;
	size_t n;

	if (e == NULL)
		return;
	pump_pace_credit(&s->pump);
	if (s->ntunnels == 0 || !pump_pace_open(&s->pump))
		return;
	n = e->turn++ % (s->ntunnels + 1);
	if (n > 0)
		tunnel_resume(s->tunnels[n - 1]);
}

bool session_pace_takes(struct session *s)
{
	if (s->pump.pace == NULL || pump_pace_input(&s->pump, 1) > 0)
		return true;
	/* that it is silent is our doing */
	s->last_input_ms = loop_now_ms();
	return false;
}

static void on_wait_over(void *arg)
{
	struct session *s = arg;

	s->pace_timer = NULL; /* before every wait all that waits is seen to */
}

void session_pace_wait(struct session *s)
{
	struct pump_pace *e = s->pump.pace;
	uint64_t due;

	if (e == NULL || e->wait_ms == UINT64_MAX)
		return;
	due = loop_now_ms() + e->wait_ms;
	e->wait_ms = UINT64_MAX;
	if (s->pace_timer != NULL && s->pace_due_ms <= due)
		return;
	loop_cancel(s->pace_timer);
	s->pace_due_ms = due;
	s->pace_timer = loop_after(s->loop, due - loop_now_ms(), on_wait_over,
	                           s);
	if (s->pace_timer == NULL)
		session_end(s, "out of memory");
}

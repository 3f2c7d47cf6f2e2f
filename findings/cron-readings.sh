#!/usr/bin/env bash
# One cron expression, three Python libraries, three different sets of days.
#
# One would guess: the five fields are older than any of these; libraries differ in extensions (L, #, W)
#   and not in `*/2`, `1` and a plain time of day.
# What happens: "0 9 */2 * 1" is "odd days that are Mondays" to cronsim, as to Vixie's cron, for a field that
#   begins with * is no restriction; "odd days, and Mondays too" to croniter; and "odd days that are
#   Tuesdays" to APScheduler, which begins the week at 0 with Monday, even in `from_crontab`. In the night
#   in which the clocks go back, "30 2 * * *" fires twice in croniter and in APScheduler, once in cronsim. In
#   the night in which they go forward all three fire once: at 03:00, and APScheduler at what it calls
#   02:30+0100, which is 03:30.
# Seen with: croniter 7.0.0, cronsim 2.8, APScheduler 3.11.3, PyPI.
# Why it matters to a host of agents: people bring their schedules from such programs, and models were taught
#   on all of them. The same line comes two or three times a month or eighteen times, and a daily job is done
#   twice. Show the next few instants to whoever enters an expression, and say which rule is followed.
# Rule: crontab(5): if both day fields are restricted (neither begins with *), either suffices; 0 and 7 are
#   Sunday. cron(8) of Debian: after the clocks went back, what has run is not run again.
set -euo pipefail

dir=$(mktemp --directory)
trap 'rm -rf -- "$dir"' EXIT

python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check \
    croniter==7.0.0 cronsim==2.8 apscheduler==3.11.3 tzdata==2026.6

cat >"$dir/finding.py" <<'PY'
from datetime import datetime, timedelta, timezone
from itertools import islice
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger
from croniter import croniter
from cronsim import CronSim

BERLIN = ZoneInfo("Europe/Berlin")


def with_croniter(expression, start):
    times = croniter(expression, start)
    while True:
        yield times.get_next(datetime)


def with_apscheduler(expression, start):
    trigger, previous, now = CronTrigger.from_crontab(expression, timezone=BERLIN), None, start
    while True:
        previous = trigger.get_next_fire_time(previous, now)
        yield previous
        # The scheduler's clock has gone on by a second when it asks again.
        now = (previous.astimezone(timezone.utc) + timedelta(seconds=1)).astimezone(BERLIN)


LIBRARIES = {"cronsim": CronSim, "croniter": with_croniter, "APScheduler": with_apscheduler}
for expression, start, form, count in (
    ("0 9 */2 * 1", datetime(2026, 8, 1, tzinfo=BERLIN), "%a%d", 5),
    ("0 9 * * 1", datetime(2026, 8, 1, tzinfo=BERLIN), "%a%d", 2),
    ("30 2 * * *", datetime(2026, 10, 24, 12, tzinfo=BERLIN), "%d %H:%M%z,", 3),
    ("30 2 * * *", datetime(2026, 3, 28, 12, tzinfo=BERLIN), "%d %H:%M%z,", 2),
):
    for name, fires in LIBRARIES.items():
        times = (time.strftime(form) for time in islice(fires(expression, start), count))
        print(f"{expression}  {name}:", *times)
PY

expected="0 9 */2 * 1  cronsim: Mon03 Mon17 Mon31 Mon07 Mon21
0 9 */2 * 1  croniter: Sat01 Mon03 Wed05 Fri07 Sun09
0 9 */2 * 1  APScheduler: Tue11 Tue25 Tue01 Tue15 Tue29
0 9 * * 1  cronsim: Mon03 Mon10
0 9 * * 1  croniter: Mon03 Mon10
0 9 * * 1  APScheduler: Tue04 Tue11
30 2 * * *  cronsim: 25 02:30+0200, 26 02:30+0100, 27 02:30+0100,
30 2 * * *  croniter: 25 02:30+0200, 25 02:30+0100, 26 02:30+0100,
30 2 * * *  APScheduler: 25 02:30+0200, 25 02:30+0100, 26 02:30+0100,
30 2 * * *  cronsim: 29 03:00+0200, 30 02:30+0200,
30 2 * * *  croniter: 29 03:00+0200, 30 02:30+0200,
30 2 * * *  APScheduler: 29 02:30+0100, 30 02:30+0200,"

seen=$(timeout 60 "$dir/venv/bin/python" "$dir/finding.py")
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'this has changed; it was:\n%s\n' "$expected" >&2
    exit 1
}

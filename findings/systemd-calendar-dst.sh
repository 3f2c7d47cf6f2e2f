#!/usr/bin/env bash
# An hourly systemd timer leaves out an hour in autumn, and a daily one a whole day in spring.
#
# One would guess: `hourly` elapses each hour, whatever the clocks do; and a daily time that the clocks leave
#   out comes as soon as they have jumped, as in cron.
# What happens: in the night in which the clocks go back, `*:00` elapses at 02:00 summer time and next at
#   03:00 winter time: two hours apart, the second 02:00 is not used. (`*:0/15` falls silent for an hour and
#   a quarter.) A daily 02:30 does not elapse at all on the day on which the clocks go forward. With
#   UTC as the zone none of this happens.
# Seen with: systemd 252 (`systemd-analyze calendar`, Debian 12); it needs no running systemd.
# Why it matters to a host of agents: a timer that looks after a host each quarter of an hour, or one that
#   replaces a host's own schedules, is not there when something else goes wrong with the change of clocks;
#   and somebody who moves schedules from cron to timers, or to us, expects cron's rules for both nights.
#   Write UTC into OnCalendar=, or use OnUnitActiveSec=.
# Rule: systemd.time(7) says nothing of it; <https://github.com/systemd/systemd/issues/8647> and 5595.
set -euo pipefail

systemd-analyze --version | grep -q '^systemd 252 ' || {
    echo "this is about systemd 252 of Debian 12; here is: $(systemd-analyze --version | head -n 1)" >&2
    exit 2
}

# elapses COUNT AFTER CALENDAR: the next instants, in UTC, on a line.
elapses() {
    TZ=UTC systemd-analyze calendar --iterations="$1" --base-time="$2" "$3" |
        sed -n 's/.*\(Next elapse\|Iter\. #[0-9]*\): [A-Z][a-z]* [0-9]*-\([0-9-]* [0-9:]*\):00 UTC$/\2/p' |
        paste -sd ' '
}

expected="back:    *:00 Europe/Berlin: 10-24 23:00 10-25 00:00 10-25 02:00 10-25 03:00
         *:00/15 Europe/Berlin: 10-25 00:45 10-25 02:00 10-25 02:15
         *:00 UTC: 10-24 23:00 10-25 00:00 10-25 01:00 10-25 02:00
forward: 02:30 Europe/Berlin: 03-28 01:30 03-30 00:30 03-31 00:30"

seen=$(
    printf 'back:    *:00 Europe/Berlin: %s\n' "$(elapses 4 '2026-10-24 22:30 UTC' '*:00 Europe/Berlin')"
    printf '         *:00/15 Europe/Berlin: %s\n' "$(elapses 3 '2026-10-25 00:40 UTC' '*:00/15 Europe/Berlin')"
    printf '         *:00 UTC: %s\n' "$(elapses 4 '2026-10-24 22:30 UTC' '*:00 UTC')"
    printf 'forward: 02:30 Europe/Berlin: %s\n' "$(elapses 3 '2026-03-27 12:00 UTC' '02:30 Europe/Berlin')"
)
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'this has changed; it was:\n%s\n' "$expected" >&2
    exit 1
}

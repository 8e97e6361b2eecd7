#!/bin/sh
# Two deployments on one log: `main` answers with the champion, `paper` tries another bundle beside it, on the very same ticks.
# They share the ticks and nothing else: epochs, checkpoints, control records, signals, rejects and pauses are each one's own.
#
#     sh docs/examples/paper_beside_live.sh        in an empty folder, with `tocsin` on PATH; takes a minute or two
set -eu
export TOCSIN_ENGINE_LISTEN= TOCSIN_LOG_TRANSPORT=redis+embedded://.tocsin/log

# Two bundles from the same past; live gets the first, paper the second.
cat > past.py <<'PY'
from engine.feeds.sim import simulate
from engine.files import write_ticks

ticks = simulate(3.0, seed=1)
cut = len(ticks) // 2
write_ticks(ticks[:cut], "past.parquet")
write_ticks(ticks[cut:], "now.parquet")
PY
"${PYTHON:-python3}" past.py
tocsin train --ticks past.parquet --activate manual
tocsin train --ticks past.parquet --activate manual --moments tick

# An engine each. A deployment belongs to one set of features, so both warm up from the same files.
tocsin run engine --name live --warm past.parquet 2> live.log &
live=$!
tocsin run engine --name paper --deployment paper --warm past.parquet 2> paper.log &
paper=$!
trap 'kill $live $paper 2>/dev/null; wait' EXIT
until grep -qs ready: live.log && grep -qs ready: paper.log; do sleep 0.2; done
tocsin models activate 1 --comment "live"
tocsin models activate 2 --deployment paper --comment "tried on paper"

tocsin feed files now.parquet --rate 5000
sleep 2

# What is done to paper doesn't touch live.
tocsin pause --deployment paper --comment "live goes on"
tocsin feed sim --days 0.2 --seed 2 --start 2024-01-05T10:00:00Z --lively --speed max
sleep 2

echo "live:";  tocsin signals | tail -n 3
echo "paper:"; tocsin signals --deployment paper | tail -n 3
tocsin models history
tocsin models history --deployment paper

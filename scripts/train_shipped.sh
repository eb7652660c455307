#!/bin/bash
# The whole training of the shipped `default`, from nothing, with the code of one commit: corpora, first training, long mixtures,
# teacher, training on, long mixtures again. Several days of one core; run it again to continue where it stopped.
#
#     scripts/train_shipped.sh [KEY=VALUE ...]      # settings for every step of training, such as num_threads=1
#
# The weights that come with the package were trained in more and shorter steps, at several commits (docs/laboratory.md).
set -euo pipefail

TEACHER_HOURS=${TEACHER_HOURS:-20}

# train NAME SETTINGS...: one step of training, which is skipped if it is done and continued if it was interrupted.
train() {
    local run=runs/shipped/$1
    shift
    if [ ! -e "$run/model/SHA256SUMS" ]; then
        local resume=()
        [ -e "$run/checkpoints/last.ckpt" ] && resume=("ckpt_path=$run/checkpoints/last.ckpt")
        python train.py "hydra.run.dir=$run" test=false num_examples=0 callbacks.examples=null "$@" "${SETTINGS[@]}" "${resume[@]}"
    fi
}
SETTINGS=("$@")

# Mixtures of one and three minutes: an hour then ends as it began.
LONG=(experiment=default optimizer=muon scheduler.build.warmup_steps=15 data.batch_size=2 data.mixing.segment_s=60)

[ -e data/debian/manifest.jsonl ] || hushwork prepare debian --size full
[ -e data/tts/manifest.jsonl ] || hushwork prepare tts

train first name=default_first experiment=default optimizer=muon optimizer.lr=1.5e-3 trainer.max_steps=40000
train long name=default_long "${LONG[@]}" init_from=runs/shipped/first/model optimizer.lr=4e-4 data.mixtures_per_epoch=720 \
    trainer.max_steps=360 scheduler.build.decay_steps=330

python scripts/benchmarks/teach.py experiment=taught --hours "$TEACHER_HOURS" -o data/taught # resumes by itself
train taught name=default_taught experiment=taught init_from=runs/shipped/long/model trainer.max_steps=20000 \
    scheduler.build.decay_steps=10000

train default name=default "${LONG[@]}" init_from=runs/shipped/taught/model optimizer.lr=2e-4 data.mixtures_per_epoch=240 \
    trainer.max_steps=60 scheduler.build.decay_steps=45 test=true

#!/bin/bash
# The whole training of the shipped models, from nothing, with the code of one commit: corpora, first training, long mixtures,
# teacher, training on, long mixtures again. Several days of one core for each; run it again to continue where it stopped.
#
#     scripts/train_shipped.sh MODEL [KEY=VALUE ...]   # default, small or offline; settings for every step, as num_threads=1
#
# The weights that come with the package were trained in more and shorter steps, at several commits (docs/laboratory.md).
set -euo pipefail

TEACHER_HOURS=${TEACHER_HOURS:-20}
MODEL=${1:?give a model: default, small or offline}
shift
NETWORK=model.masker.recurrence # of experiment=taught, which is that of default if nothing is said
case $MODEL in
    default) SIZE=() ;;
    small) SIZE=(model.num_bands=64 "$NETWORK.hidden_sizes=[64,40,32,32]") ;;
    offline) SIZE=("$NETWORK.hidden_sizes=[128,96,64,64]" "$NETWORK.bidirectional=true") ;;
    *)
        echo "there is no model $MODEL; choose default, small or offline" >&2
        exit 2
        ;;
esac
SETTINGS=("$@")

# train NAME SETTINGS...: one step of training, which is skipped if it is done and continued if it was interrupted.
train() {
    local run=runs/shipped/$MODEL/$1
    shift
    if [ ! -e "$run/model/SHA256SUMS" ]; then
        local resume=()
        [ -e "$run/checkpoints/last.ckpt" ] && resume=("ckpt_path=$run/checkpoints/last.ckpt")
        python train.py "hydra.run.dir=$run" test=false num_examples=0 callbacks.examples=null "$@" "${SETTINGS[@]}" "${resume[@]}"
    fi
}
after() { echo "init_from=runs/shipped/$MODEL/$1/model"; }

# Mixtures of a minute: an hour then ends as it began.
LONG=("experiment=$MODEL" optimizer=muon scheduler.build.warmup_steps=15 data.batch_size=2 data.mixing.segment_s=60)

[ -e data/debian/manifest.jsonl ] || hushwork prepare debian --size full
[ -e data/tts/manifest.jsonl ] || hushwork prepare tts

train first "name=${MODEL}_first" "experiment=$MODEL" init_from=null optimizer=muon optimizer.lr=1.5e-3 \
    scheduler.build.decay_steps=10000 trainer.max_steps=40000
train long "name=${MODEL}_long" "${LONG[@]}" "$(after first)" optimizer.lr=4e-4 data.mixtures_per_epoch=720 \
    trainer.max_steps=360 scheduler.build.decay_steps=330

python scripts/benchmarks/teach.py experiment=taught --hours "$TEACHER_HOURS" -o data/taught # resumes by itself
train taught "name=${MODEL}_taught" experiment=taught "${SIZE[@]}" "$(after long)" trainer.max_steps=20000 \
    scheduler.build.decay_steps=10000

train last "name=$MODEL" "${LONG[@]}" "$(after taught)" optimizer.lr=2e-4 data.mixtures_per_epoch=240 \
    trainer.max_steps=60 scheduler.build.decay_steps=45 test=true

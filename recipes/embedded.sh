#!/usr/bin/env bash
# Everything that makes moda/weights/embedded, from the data on, about five hours of two cores:
#     recipes/embedded.sh ../shared/data openai/whisper-base      (or a file with Whisper base's first four layers)
# What is finished is not made again, and a training run goes on where it was cut off.
set -euo pipefail
cd "$(dirname "$0")/.."
DATA=$1 TEACHER=$2 WORK=runs/recipe SHIPPED=moda/weights/embedded
mkdir -p $WORK/done

once() { # NAME COMMAND...
  [ -e "$WORK/done/$1" ] || { echo "== $1" && "${@:2}" && touch "$WORK/done/$1"; }
}

ship() { # FOLDER FILE...
  for name in "${@:2}"; do cp "$1/$name" $SHIPPED; done
}

# Speech without transcripts (the first folder's also gives the jaw), and sounds without a voice.
once speech python -m recipes.speech_corpus speech $WORK/speech "$DATA"/blendshapes "$DATA"/speech/* \
  /usr/share/asterisk/sounds/* /usr/share/ktuberling/sounds --teacher "$TEACHER"
once noise python -m recipes.speech_corpus noise $WORK/noise \
  /usr/share/{asterisk/moh,sounds,games/colobot,hyperrogue,wordwarvi}
once made_up python -m recipes.noise $WORK
once phones python -m recipes.phone_corpus $WORK/phones --data "$DATA" --teacher "$TEACHER"
# Film, and what is to be heard in each frame.
once film moda data prepare "$DATA"/video/{train,val} -o $WORK/dataset --people "$DATA"/video/INDEX.tsv
once lips python -m recipes.lips $WORK --dataset $WORK/dataset --index "$DATA"/video/INDEX.tsv --teacher "$TEACHER"
once targets python -m recipes.targets $WORK --data "$DATA" --teacher "$TEACHER"
# The encoder, and what is measured of it.
once encoder python -m recipes.encoder $WORK recipes/configs/encoder.json
once calibrate python -m recipes.calibrate $WORK $WORK/encoder $SHIPPED
once curves python -m recipes.fit_spoken "$DATA"/blendshapes
# The lip-sync expert of this encoder; the generator, then in few steps, then as lively as people are.
once sync moda train configs/sync.json
once ship_sync ship runs/sync/model sync.json sync.safetensors
once generator moda train configs/embedded.json
once few_steps moda train configs/embedded_few_steps.json
once enliven python -m recipes.enliven runs/embedded_few_steps/model
once ship ship runs/embedded_few_steps/model config.json generator.safetensors

#!/bin/sh
# The main job from end to end, in the folder demo/: train, export, verify, render, play.
# usage: scripts/demo.sh BIN
set -eu
bin=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
mkdir -p demo
cd demo
fxclone="$bin/fxclone"

echo "== 1. a guitar phrase to play with"
"$fxclone" signal --kind plucked --seconds 8 --seed 7 -o guitar.wav --force
echo "== 2. train a clone of tanh (drive 5)"
"$fxclone" train --effect tanh --force
echo "== 3. verify the file"
"$fxclone" verify tanh.onnx
echo "== 4. render the phrase through the clone"
"$fxclone" render --model tanh.onnx guitar.wav -o guitar-tanh.wav --force
echo "== 5. play it through the null device, as fast as the clock of a sound card"
"$fxclone" play --model tanh.onnx --device null --input-file guitar.wav --duration 4
echo "== 6. how good is it? The phrase was not used for training"
"$fxclone" evaluate --model tanh.onnx --dry guitar.wav --effect tanh
echo
echo "the files are in $(pwd):"
ls -1 tanh.onnx guitar.wav guitar-tanh.wav | sed 's/^/  /'

#!/bin/sh
# Makes clip.ivf: 4 s of 640x360 VP8 at 30 frames a second, about 150 kB, looping without a seam.
# Needs ffmpeg with libvpx and the DejaVu fonts (Debian: ffmpeg, fonts-dejavu-core).
#
# A keyframe every 30 frames answers a viewer's keyframe request within a second; no alt-ref
# frames and no lag, because every frame must be one that can be sent when its time has come.
set -eu
cd "$(dirname "$0")"

SECONDS_LONG=4
RATE=30
MONO=/usr/share/fonts/truetype/dejavu/DejaVuSansMono-Bold.ttf
SANS=/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf

# The seven bars at 75 %, the grey ramp below them, and the frame that shows overscan.
bars() {
  n=0
  for colour in BFBFBF BFBF00 00BFBF 00BF00 BF00BF BF0000 0000BF; do
    printf 'drawbox=x=%d:y=24:w=83:h=108:color=0x%s:t=fill,' $((32 + n * 576 / 7)) "$colour"
    n=$((n + 1))
  done
  n=0
  for step in 10 20 30 44 58 6C 80 94 A8 C0 DC FF; do
    printf 'drawbox=x=%d:y=132:w=48:h=22:color=0x%s%s%s:t=fill,' $((32 + n * 48)) "$step" "$step" "$step"
    n=$((n + 1))
  done
  printf 'drawbox=x=8:y=8:w=624:h=344:color=0x3B4252:t=2'
}

# The clock's hand turns once in the clip's four seconds, the bead swings once, so the end meets
# the beginning.
TURN="2*PI*t/$SECONDS_LONG"

ffmpeg -y -hide_banner -loglevel error \
  -f lavfi -i "color=c=0x12161F:s=640x360:r=$RATE:d=$SECONDS_LONG,format=rgba" \
  -f lavfi -i "color=c=black@0:s=132x132:r=$RATE:d=$SECONDS_LONG,format=rgba,geq=r=229:g=233:b=240:a='255*clip(max(3-abs(hypot(X-66,Y-66)-60),5.5-hypot(X-66,Y-66)),0,1)'" \
  -f lavfi -i "color=c=black@0:s=132x132:r=$RATE:d=$SECONDS_LONG,format=rgba,geq=r=136:g=192:b=208:a='255*between(Y,14,66)*lte(abs(X-66),3)',rotate='$TURN':c=none" \
  -f lavfi -i "color=c=black@0:s=24x24:r=$RATE:d=$SECONDS_LONG,format=rgba,geq=r=235:g=203:b=139:a='255*clip(11-hypot(X-12,Y-12),0,1)'" \
  -filter_complex "
    [0]$(bars),
      drawbox=x=32:y=306:w=576:h=4:color=0x3B4252:t=fill,
      drawtext=fontfile=$SANS:text='TEST CARD':fontsize=24:fontcolor=0xE5E9F0:x=196:y=172,
      drawtext=fontfile=$MONO:timecode='00\:00\:00\:00':rate=$RATE:fontsize=38:fontcolor=0x88C0D0:x=196:y=204,
      drawtext=fontfile=$SANS:text='640 x 360   VP8   30 fps':fontsize=15:fontcolor=0x8A94A8:x=196:y=256[card];
    [card][1]overlay=x=38:y=160[dial];
    [dial][2]overlay=x=38:y=160[clock];
    [clock][3]overlay=x='320-12-276*cos($TURN)':y=296:eval=frame[out]" \
  -map '[out]' -t "$SECONDS_LONG" -an \
  -c:v libvpx -pix_fmt yuv420p -g $RATE -keyint_min $RATE \
  -b:v 320k -maxrate 420k -bufsize 600k -qmax 50 \
  -deadline good -cpu-used 0 -auto-alt-ref 0 -lag-in-frames 0 \
  -fflags +bitexact -flags:v +bitexact \
  clip.ivf
ls -l clip.ivf

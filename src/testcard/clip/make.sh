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
  x=32
  for colour in BFBFBF BFBF00 00BFBF 00BF00 BF00BF BF0000 0000BF; do
    printf 'drawbox=x=%d:y=28:w=83:h=118:color=0x%s:t=fill,' "$x" "$colour"
    x=$((x + 82))
  done
  x=32
  for step in 10 28 40 58 70 88 A0 B8 D0 E8 FF; do
    printf 'drawbox=x=%d:y=146:w=53:h=26:color=0x%s%s%s:t=fill,' "$x" "$step" "$step" "$step"
    x=$((x + 52))
  done
  printf 'drawbox=x=8:y=8:w=624:h=344:color=0x3B4252:t=2'
}

# The clock's hand turns once in the clip's four seconds, the bead swings once, so the end meets
# the beginning.
TURN="2*PI*t/$SECONDS_LONG"

ffmpeg -y -hide_banner -loglevel error \
  -f lavfi -i "color=c=0x12161F:s=640x360:r=$RATE:d=$SECONDS_LONG,format=rgba" \
  -f lavfi -i "color=c=black@0:s=132x132:r=$RATE:d=$SECONDS_LONG,format=rgba,geq=r=229:g=233:b=240:a='255*(lte(abs(hypot(X-66,Y-66)-60),2.5)+lte(hypot(X-66,Y-66),5)*1)'" \
  -f lavfi -i "color=c=black@0:s=132x132:r=$RATE:d=$SECONDS_LONG,format=rgba,geq=r=136:g=192:b=208:a='255*between(Y,14,66)*lte(abs(X-66),3)',rotate='$TURN':c=none" \
  -f lavfi -i "color=c=black@0:s=24x24:r=$RATE:d=$SECONDS_LONG,format=rgba,geq=r=235:g=203:b=139:a='255*lte(hypot(X-12,Y-12),11)'" \
  -filter_complex "
    [0]$(bars),
      drawbox=x=32:y=330:w=576:h=4:color=0x3B4252:t=fill,
      drawtext=fontfile=$SANS:text='TEST CARD':fontsize=24:fontcolor=0xE5E9F0:x=190:y=196,
      drawtext=fontfile=$MONO:timecode='00\:00\:00\:00':rate=$RATE:fontsize=38:fontcolor=0x88C0D0:x=190:y=228,
      drawtext=fontfile=$SANS:text='640 x 360   VP8   30 fps':fontsize=15:fontcolor=0x8A94A8:x=190:y=280[card];
    [card][1]overlay=x=38:y=184[dial];
    [dial][2]overlay=x=38:y=184[clock];
    [clock][3]overlay=x='320-12-276*cos($TURN)':y=320:eval=frame[out]" \
  -map '[out]' -t "$SECONDS_LONG" -an \
  -c:v libvpx -pix_fmt yuv420p -g $RATE -keyint_min $RATE \
  -b:v 320k -maxrate 420k -bufsize 600k -qmax 50 \
  -deadline good -cpu-used 0 -auto-alt-ref 0 -lag-in-frames 0 \
  -fflags +bitexact -flags:v +bitexact \
  clip.ivf
ls -l clip.ivf

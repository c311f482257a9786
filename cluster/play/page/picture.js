// Pictures: bytes row by row, as base64, onto a canvas of as many pixels. The style sheet enlarges it.

export function bytes(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

export function floats(base64) {
  return new Float32Array(bytes(base64).buffer);
}

export function draw(canvas, pixels, [high, wide, channels]) {
  if (canvas.width !== wide || canvas.height !== high) {
    canvas.width = wide;
    canvas.height = high;
  }
  const image = new ImageData(wide, high);
  for (let n = 0; n < high * wide; n++) {
    for (let c = 0; c < 3; c++) {
      image.data[4 * n + c] = pixels[channels * n + (c % channels)];
    }
    image.data[4 * n + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// A ring around a place [row, column] of a picture; none where there is no place.
export function ring(element, place, [high, wide]) {
  element.hidden = !place;
  if (place) {
    element.style.top = `${(100 * (place[0] + 0.5)) / high}%`;
    element.style.left = `${(100 * (place[1] + 0.5)) / wide}%`;
  }
}

// A picture the right way up. The server takes the grid of pixels as it is stored, a browser turns it as EXIF says;
// what both are to see alike is stored anew, turned.

const JPEG_QUALITY = 0.95;
const ORIENTATION_TAG = 0x0112;

/**
 * @param {Blob} file
 * @returns {Promise<{file: Blob, bitmap: ImageBitmap, wasTurned: boolean}>} the file to send, and its pixels
 * @throws {Error} the browser cannot show it
 */
export async function upright(file) {
  const bitmap = await createImageBitmap(file, { premultiplyAlpha: "none", colorSpaceConversion: "none" });
  if (exifOrientation(await file.slice(0, 128 * 1024).arrayBuffer()) <= 1) return { file, bitmap, wasTurned: false };
  return { file: await jpegOf(bitmap), bitmap, wasTurned: true };
}

/** @param {CanvasImageSource & {width: number, height: number}} picture @returns {Promise<Blob>} */
export async function jpegOf(picture) {
  const canvas = new OffscreenCanvas(picture.width, picture.height);
  /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d")).drawImage(picture, 0, 0);
  return canvas.convertToBlob({ type: "image/jpeg", quality: JPEG_QUALITY });
}

/**
 * Orientation of a JPEG file, 1 to 8; 1 is upright, and what is said of a file that says nothing.
 * @param {ArrayBuffer} start of the file
 */
export function exifOrientation(start) {
  const view = new DataView(start);
  try {
    if (view.getUint16(0) !== 0xffd8) return 1;
    let at = 2;
    while (view.getUint16(at) !== 0xffe1 || view.getUint32(at + 4) !== 0x45786966) {
      if (view.getUint8(at) !== 0xff || view.getUint16(at) === 0xffda) return 1;
      at += 2 + view.getUint16(at + 2);
    }
    return orientationIn(view, at + 10);
  } catch (error) {
    if (error instanceof RangeError) return 1; // cut short
    throw error;
  }
}

/** @param {DataView} view @param {number} tiff where the TIFF header begins */
function orientationIn(view, tiff) {
  const isLittle = view.getUint16(tiff) === 0x4949;
  const directory = tiff + view.getUint32(tiff + 4, isLittle);
  const entries = view.getUint16(directory, isLittle);
  for (let entry = 0; entry < entries; entry++) {
    const at = directory + 2 + 12 * entry;
    if (view.getUint16(at, isLittle) === ORIENTATION_TAG) return view.getUint16(at + 8, isLittle);
  }
  return 1;
}

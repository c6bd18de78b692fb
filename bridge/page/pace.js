// How much of a cloud is drawn while it moves: as much as the machine draws in time for 30 frames a second.

const FRAME_MS = 25;
const TRUST = 0.5; // in a new measurement, against those before

export class Pace {
  constructor() {
    this.msPerPoint = 0;
    this.isMeasuring = false;
  }

  /** Pixels between the points that are drawn. @param {number} points of the whole cloud */
  every(points) {
    return Math.max(1, Math.ceil(Math.sqrt((points * this.msPerPoint) / FRAME_MS)));
  }

  /** Measure how long the GPU takes for what was drawn just now. @param {WebGL2RenderingContext} gl @param {number} points */
  measure(gl, points) {
    const done = this.isMeasuring ? null : gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
    if (!done || !points) return;
    this.isMeasuring = true;
    const since = performance.now();
    gl.flush();
    const look = () => {
      if (gl.clientWaitSync(done, 0, 0) === gl.TIMEOUT_EXPIRED) {
        setTimeout(look);
        return;
      }
      const measured = (performance.now() - since) / points;
      this.msPerPoint = this.msPerPoint ? TRUST * measured + (1 - TRUST) * this.msPerPoint : measured;
      this.isMeasuring = false;
      gl.deleteSync(done);
    };
    setTimeout(look);
  }
}

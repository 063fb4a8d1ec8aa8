/**
 * Files without a name, for what a program reads or prints: whole before it starts, gone when nobody has it open.
 *
 * In memory where the machine has room for it there: a node under disk pressure still has to change its rules.
 */

import { closeSync, fstatSync, openSync, readSync, unlinkSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const FOLDERS = ["/dev/shm", "/run", tmpdir()] as const;
/** O_TMPFILE with O_DIRECTORY as Linux defines them; Node's `constants` lack it. */
const O_TMPFILE = 0o20200000;
const O_RDWR = 2;
const PIECE_BYTES = 256 * 1024;
let nextName = 0;

export class UnlinkedFile {
  /** At its start for whoever gets it as standard input or output. */
  readonly descriptor: number;

  /** Throws one sentence where no folder can be written to. */
  constructor() {
    this.descriptor = openUnlinked();
  }

  /** With these pieces in it. */
  static of(pieces: readonly (string | Uint8Array)[]): UnlinkedFile {
    const file = new UnlinkedFile();
    let position = 0;
    for (const piece of pieces) {
      const bytes = typeof piece === "string" ? Buffer.from(piece, "utf8") : piece;
      // With positions the offset of the descriptor stays at 0, where the child begins to read.
      for (let done = 0; done < bytes.length; )
        done += writeSync(file.descriptor, bytes, done, bytes.length - done, position + done);
      position += bytes.length;
    }
    return file;
  }

  whole(): Uint8Array {
    const bytes = Buffer.allocUnsafeSlow(fstatSync(this.descriptor).size);
    return bytes.subarray(0, this.#read(bytes, 0, 0));
  }

  /** Whole lines, in views that hold until the next one is asked for; one view of nothing where there is nothing. */
  *pieces(pieceBytes: number = PIECE_BYTES): Generator<Uint8Array> {
    let buffer = Buffer.allocUnsafeSlow(pieceBytes);
    let position = 0;
    /** Of a line that has begun. */
    let kept = 0;
    for (;;) {
      const read = this.#read(buffer, kept, position);
      position += read;
      const filled = kept + read;
      if (filled < buffer.length) {
        yield buffer.subarray(0, filled);
        return;
      }
      const end = buffer.lastIndexOf(10) + 1;
      if (end === 0) {
        buffer = Buffer.concat([buffer], 2 * buffer.length);
        kept = filled;
        continue;
      }
      yield buffer.subarray(0, end);
      buffer.copyWithin(0, end, filled);
      kept = filled - end;
    }
  }

  close(): void {
    closeSync(this.descriptor);
  }

  /** Fills the buffer from `offset` on, as far as the file goes. */
  #read(buffer: Buffer, offset: number, position: number): number {
    let done = 0;
    while (offset + done < buffer.length) {
      const read = readSync(
        this.descriptor,
        buffer,
        offset + done,
        buffer.length - offset - done,
        position + done,
      );
      if (read === 0) break;
      done += read;
    }
    return done;
  }
}

function openUnlinked(): number {
  let failure: unknown;
  for (const folder of FOLDERS) {
    try {
      return openSync(folder, O_TMPFILE | O_RDWR, 0o600);
    } catch (error) {
      failure = error;
    }
    try {
      const path = join(folder, `.fairlead-${process.pid}-${nextName++}`);
      const descriptor = openSync(path, "wx+", 0o600);
      unlinkSync(path);
      return descriptor;
    } catch (error) {
      failure = error;
    }
  }
  throw new Error(
    `No folder of ${FOLDERS.join(", ")} can be written to: ${failure instanceof Error ? failure.message : String(failure)}.`,
  );
}

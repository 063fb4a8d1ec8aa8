/**
 * Files without a name, for what a program reads or prints: whole before it starts, gone when nobody has it open.
 *
 * In memory where the machine has room for it there: a node under disk pressure still has to change its rules.
 */

import { closeSync, fstatSync, openSync, readSync, unlinkSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const FOLDERS: readonly string[] = ["/dev/shm", "/run", tmpdir()];
/** O_TMPFILE with O_DIRECTORY as Linux defines them; Node's `constants` lack it. */
const O_TMPFILE = 0o20200000;
const O_RDWR = 2;
const PIECE_BYTES = 256 * 1024;
let nextName = 0;

export class UnlinkedFile {
  /** At its start for whoever gets it as standard input or output. */
  readonly descriptor: number;

  private constructor(descriptor: number) {
    this.descriptor = descriptor;
  }

  /**
   * An empty one in each folder that can be written to, for who does not know how much room it takes. Whoever takes one
   * closes it. Throws one sentence where there is no such folder.
   */
  static *candidates(folders: readonly string[] = FOLDERS): Generator<UnlinkedFile> {
    let failure: unknown;
    let isAny = false;
    for (const folder of folders) {
      let descriptor: number;
      try {
        descriptor = openUnlinked(folder);
      } catch (error) {
        failure = error;
        continue;
      }
      isAny = true;
      yield new UnlinkedFile(descriptor);
    }
    if (!isAny) throw notWritable(folders, failure);
  }

  /** With these pieces in it, in the first folder that has room for them. Throws one sentence where none has. */
  static of(pieces: readonly (string | Uint8Array)[], folders: readonly string[] = FOLDERS): UnlinkedFile {
    let failure: unknown;
    for (const file of UnlinkedFile.candidates(folders)) {
      try {
        file.#write(pieces);
        return file;
      } catch (error) {
        file.close();
        failure = error;
      }
    }
    throw notWritable(folders, failure);
  }

  isEmpty(): boolean {
    return fstatSync(this.descriptor).size === 0;
  }

  /** Everything, in memory. */
  whole(): Buffer {
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

  /** Whether it ends in this text: what a program prints into a full folder is cut, and some programs do not say so. */
  endsWith(text: string): boolean {
    const bytes = Buffer.alloc(Buffer.byteLength(text));
    const position = fstatSync(this.descriptor).size - bytes.length;
    return (
      position >= 0 && this.#read(bytes, 0, position) === bytes.length && bytes.toString("utf8") === text
    );
  }

  close(): void {
    closeSync(this.descriptor);
  }

  #write(pieces: readonly (string | Uint8Array)[]): void {
    let position = 0;
    for (const piece of pieces) {
      const bytes = typeof piece === "string" ? Buffer.from(piece, "utf8") : piece;
      // With positions the offset of the descriptor stays at 0, where the child begins to read.
      for (let done = 0; done < bytes.length; )
        done += writeSync(this.descriptor, bytes, done, bytes.length - done, position + done);
      position += bytes.length;
    }
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

function openUnlinked(folder: string): number {
  try {
    return openSync(folder, O_TMPFILE | O_RDWR, 0o600);
  } catch {
    // Not every file system has such files.
    const path = join(folder, `.fairlead-${process.pid}-${nextName++}`);
    const descriptor = openSync(path, "wx+", 0o600);
    unlinkSync(path);
    return descriptor;
  }
}

function notWritable(folders: readonly string[], failure: unknown): Error {
  const reason = failure instanceof Error ? failure.message : String(failure);
  return new Error(`No folder of ${folders.join(", ")} can be written to: ${reason}.`);
}

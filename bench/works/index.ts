import { mappedFileRead } from './mapped-file.js';
import { getInFlight, getMany, getOneByOne, getOneByOneHot, iterate } from './reads.js';
import { space } from './space.js';
import { getSyncBuffers, getSyncRam, getSyncStrings, tryGetHot, tryGetPinned, tryGetProven } from './sync-reads.js';
import type { Work } from './work.js';
import { setWriteBack } from './write-back.js';
import { setInFlight, setSyncRam, twoWriters } from './writes.js';
import { getZipf } from './zipf.js';

/** In the order of the table. */
export const works: readonly Work[] = [
  getInFlight,
  getOneByOneHot,
  getOneByOne,
  getZipf,
  tryGetHot,
  tryGetProven,
  tryGetPinned,
  getSyncStrings,
  getSyncBuffers,
  getSyncRam,
  getMany,
  setInFlight,
  setSyncRam,
  twoWriters,
  setWriteBack,
  iterate,
  mappedFileRead,
  space,
];

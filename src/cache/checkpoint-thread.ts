import { workerData } from 'node:worker_threads';
import Database from 'better-sqlite3';

const database = new Database(workerData as string, { fileMustExist: true });
database.pragma('synchronous = NORMAL');
database.pragma('wal_autocheckpoint = 0');
// PASSIVE never keeps a writer waiting; the other modes hold the write lock while they sync.
database.pragma('wal_checkpoint(PASSIVE)');
// The first write after a checkpoint starts the WAL anew and syncs its header: better here than in the main thread.
database.prepare('UPDATE checkpoints SET count = count + 1').run();
database.close();

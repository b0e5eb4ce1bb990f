import workerpool from 'workerpool';
import { kinds } from './work.mjs';

workerpool.worker(kinds);

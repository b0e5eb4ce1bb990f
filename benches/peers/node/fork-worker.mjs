import { kinds } from './work.mjs';

process.on('message', ([number, kind, argument]) => {
  process.send([number, kinds[kind](argument)]);
});

// A task's time runs from when a child can take it.
process.send([0]);

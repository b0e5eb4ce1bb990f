import { kinds } from './work.mjs';

process.on('message', ([number, kind, argument]) => {
  process.send([number, kinds[kind](argument)]);
});

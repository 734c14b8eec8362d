/** The package has no types; `native-module.ts` has those of what we use. */
declare module 'fuse-native';

/** Both FUSE drivers keep what a driver promises. */
import { cannotMount } from '../daemon.ts';
import { driverSuite } from '../driver-suite.ts';
import { NATIVE_CANNOT, noNativeDriver } from '../native.ts';

driverSuite('kernel', cannotMount());
driverSuite('fuse-native', cannotMount() || (await noNativeDriver()), NATIVE_CANNOT);

// generated: migrations (npm run generate)

import { history0001 } from './0001-history.ts'
import { planTensors0002 } from './0002-plan-tensors.ts'
import { usedData0003 } from './0003-used-data.ts'
import { repair0004 } from './0004-repair.ts'
import { fit0005 } from './0005-fit.ts'
import { studies0006 } from './0006-studies.ts'
import { passes0007 } from './0007-passes.ts'
import { executors0008 } from './0008-executors.ts'
import { inspections0009 } from './0009-inspections.ts'
import { precision0010 } from './0010-precision.ts'
import { fingerprints0011 } from './0011-fingerprints.ts'
import { bulkActions0012 } from './0012-bulk-actions.ts'
import { recovery0013 } from './0013-recovery.ts'
import { budgets0014 } from './0014-budgets.ts'
import { experts0015 } from './0015-experts.ts'
import { ownValues0016 } from './0016-own-values.ts'
import { measureDetails0017 } from './0017-measure-details.ts'
import { beginToken0018 } from './0018-begin-token.ts'

/** All migrations in order; number n sets `user_version` to n. Never change a released one. */
export const migrations: readonly string[] = [
  history0001,
  planTensors0002,
  usedData0003,
  repair0004,
  fit0005,
  studies0006,
  passes0007,
  executors0008,
  inspections0009,
  precision0010,
  fingerprints0011,
  bulkActions0012,
  recovery0013,
  budgets0014,
  experts0015,
  ownValues0016,
  measureDetails0017,
  beginToken0018,
]

// end

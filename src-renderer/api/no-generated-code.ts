import { z } from 'zod'

// Zod compiles parsers with `new Function`, which the page's content policy forbids. Must run before the first schema is created.
z.config({ jitless: true })

import './api/no-generated-code.ts'
import { mount } from 'svelte'
import App from './App.svelte'
import { connect } from './api/api.ts'
import { applyTheme } from './lib/theme.svelte.ts'
import './styles/index.css'

applyTheme()
connect()

const target = document.getElementById('app')
if (target) mount(App, { target })

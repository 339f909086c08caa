import './api/no-generated-code.ts'
import { mount } from 'svelte'
import App from './App.svelte'
import { connect } from './api/api.ts'
import { applyTheme } from './lib/theme.svelte.ts'
import './styles/index.css'

applyTheme()

void connect().then(() => {
  const target = document.getElementById('app')
  if (target) mount(App, { target })
})

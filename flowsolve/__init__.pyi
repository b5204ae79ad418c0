"""The public face: each name, and where it lives. The package and editors read this list."""

from . import exact as exact
from . import grids as grids
from . import integrations as integrations
from . import parametrizations as parametrizations
from . import processes as processes
from . import solvers as solvers
from .caching import clear_cache as clear_cache
from .cfgpp import cfg_pp as cfg_pp
from .comparison import Comparison as Comparison
from .comparison import compare as compare
from .corrections import clip as clip
from .corrections import dynamic_threshold as dynamic_threshold
from .denoiser import Denoiser as Denoiser
from .denoiser import Prediction as Prediction
from .editing import edit as edit
from .encoding import Reconstruction as Reconstruction
from .encoding import encode as encode
from .encoding import reconstruct as reconstruct
from .guidance import guided as guided
from .inpainting import inpaint as inpaint
from .integrations.loading import load as load
from .interpolation import interpolate as interpolate
from .interpolation import slerp as slerp
from .latents import Latent as Latent
from .likelihood import Likelihood as Likelihood
from .likelihood import log_likelihood as log_likelihood
from .models.digits import digits as digits
from .models.fashion import fashion as fashion
from .parallel import Parallel as Parallel
from .parametrizations import Parametrization as Parametrization
from .particles import Particles as Particles
from .particles import smc as smc
from .planning import plan as plan
from .plans import Plan as Plan
from .posteriors import posterior as posterior
from .processes import CLD as CLD
from .processes import EDM as EDM
from .processes import VE as VE
from .processes import VP as VP
from .processes import Blurring as Blurring
from .processes import Level as Level
from .processes import Process as Process
from .processes import RectifiedFlow as RectifiedFlow
from .processes import SubVP as SubVP
from .processes import TrigFlow as TrigFlow
from .processes import tables as tables
from .run import BudgetExceeded as BudgetExceeded
from .run import NonFiniteError as NonFiniteError
from .run import Solution as Solution
from .run import State as State
from .sampling import sample as sample
from .sampling import solve as solve
from .solvers import solver_table as solver_table

__version__: str
__all__: list[str]
